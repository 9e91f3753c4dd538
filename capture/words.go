package capture

import (
	"context"
	"errors"
	"strings"
	"time"
)

// InstanceKind is what sort of place an instance is. What hints say goes by it.
type InstanceKind int

const (
	Host      InstanceKind = iota // it has an SSH server of its own
	Container                     // of an app on Cloud Foundry, behind the platform's SSH proxy
)

// Hints that are about hosts.
const (
	tipHangs     = "allow more with --connect-timeout, or log in by hand and see what hangs"
	tipRunsElse  = "see what the login runs instead, a forced command perhaps: ssh INSTANCE tcpdump --version"
	tipPrints    = "see what the login prints: ssh INSTANCE true; only a helper may write to its standard output"
	tipNamedOnce = "name each host once; to capture on several interfaces, repeat --interface"
)

// containerTips are what to say of containers in the place of each of these. RUN stands for a command line that runs the
// word behind it there.
var containerTips = map[string]string{
	tipHangs:     "allow more with --connect-timeout, or see whether a command hangs there: RUN true",
	tipRunsElse:  "see whether commands run there: RUN true",
	tipPrints:    "see what is printed there: RUN true; only a helper may write to its standard output",
	tipNamedOnce: "name each instance once; to capture on several interfaces, repeat --interface",
}

// reword gives an error of ours the hint that fits the kind of instance.
func (in Instance) reword(err error) error {
	var own *Error
	if in.Kind != Container || !errors.As(err, &own) || hintOf(err) != own.Tip {
		return err
	}
	tip, ok := containerTips[own.Tip]
	if !ok {
		return err
	}
	problem := strings.Replace(err.Error(), "the same host", "the same container", 1)
	return &Error{Problem: problem, Tip: strings.ReplaceAll(tip, "RUN", in.Shell), Err: err}
}

// explain puts an error of the instance into its words: those of its kind, and those of the caller, who may know more.
// Once the capture is being stopped nothing is waited for.
func (in *instance) explain(err error) error {
	cfg := in.settings()
	err = cfg.reword(err)
	if err == nil || cfg.Explain == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(in.run.active, 5*time.Second)
	defer cancel()
	return cfg.Explain(ctx, err)
}

// newLog reads what a helper on the instance says.
func (in *instance) newLog() *stderr {
	log := newStderr(timeNow())
	log.Container = in.settings().Kind == Container
	return log
}

// ownAddress is the instance's, or that of its SSH server as far as that is the same; "" where it is not known.
func (in *instance) ownAddress() string {
	switch cfg := in.settings(); {
	case cfg.Kind == Host:
		return in.remoteAddress()
	case cfg.Address.IsValid():
		return cfg.Address.String()
	}
	return ""
}
