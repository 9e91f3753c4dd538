// Command cf-pcap is Cloud Foundry's capture helper for tests: its flags, texts and exit codes, with real packets. It
// has no compiler for filters but the machine's tcpdump.
package main

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

// Knobs, in the environment.
const (
	// old makes it a version that was asked to end by SIGINT only looks at that when a packet has come.
	oldEnv = "CFPCAP_OLD"
	// denied makes it one that the platform has not enabled.
	deniedEnv = "CFPCAP_DENIED"
	// noflag is the name of a flag that it does not know.
	noflagEnv = "CFPCAP_NOFLAG"
	// slots is how many packets its ring holds, for tests that count all packets on a machine that is busy.
	slotsEnv = "CFPCAP_SLOTS"
)

// usualSlots are as many as hold the packets of some 70 ms at 100 packets a second.
const usualSlots = 8

func main() {
	o := options()
	level := slog.LevelInfo
	if o.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	// TERM ends it as it ends every program.
	interrupt := make(chan os.Signal, 1)
	signal.Notify(interrupt, syscall.SIGINT)

	c, err := open(o)
	if err != nil {
		log.Error("failed to set up capture", "error", err)
		os.Exit(1)
	}
	log.Debug("capturing", "interface", o.iface, "snaplen", o.snaplen, "filter", o.filter)
	c.patient = os.Getenv(oldEnv) != ""
	if err := c.run(os.Stdout, interrupt); err != nil {
		log.Error("failed to capture", "error", err)
		os.Exit(1)
	}
}

type config struct {
	iface, filter string
	snaplen       int
	slots         int
	verbose       bool
}

// options reads the flags, which end the program with 2 where one is not known. Other words are ignored.
func options() (o config) {
	unknown := os.Getenv(noflagEnv)
	if unknown != "interface" {
		flag.StringVar(&o.iface, "interface", "", "network interface to capture on (required)")
	}
	if unknown != "snaplen" {
		flag.IntVar(&o.snaplen, "snaplen", 65535, "bytes to capture of each packet")
	}
	if unknown != "filter" {
		flag.StringVar(&o.filter, "filter", "", "BPF filter expression")
	}
	flag.BoolVar(&o.verbose, "v", false, "verbose logging")
	flag.Parse()
	o.slots = usualSlots
	if n, err := strconv.Atoi(os.Getenv(slotsEnv)); err == nil {
		o.slots = n
	}
	return o
}

// open makes everything ready, with errors in libpcap's words.
func open(o config) (*capture, error) {
	if o.iface == "" {
		return nil, fmt.Errorf("interface is required")
	}
	if os.Getenv(deniedEnv) != "" {
		return nil, explain(o.iface, syscall.EPERM)
	}
	c, err := listen(o)
	if err != nil {
		return nil, explain(o.iface, err)
	}
	if err := c.setFilter(o); err != nil {
		return nil, fmt.Errorf("failed to set BPF filter: %w", err)
	}
	if err := c.start(); err != nil {
		return nil, explain(o.iface, err)
	}
	return c, nil
}
