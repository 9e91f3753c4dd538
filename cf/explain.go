package cf

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/sshpcap/sshpcap/sshx"
)

// Explain puts an error of dialling the Endpoint of in, or of what ran on that connection, in words for apps: those of SSH
// are about hosts. It may ask the platform for the reason, unless ctx has ended. What it has nothing to say about it gives
// back as it is.
func (c *Client) Explain(ctx context.Context, in Instance, err error) error {
	if KindOf(err) != KindOther {
		return err
	}
	e, ok := errors.AsType[*sshx.Error](err)
	if !ok {
		if errors.Is(err, sshx.ErrLost) { // a connection that was good for long
			return c.explainLoss(ctx, in, err)
		}
		return err
	}
	switch e.Kind {
	case sshx.KindLoginRefused:
		return c.explainRefusal(ctx, in, err)
	case sshx.KindCommandRefused, sshx.KindLost:
		return c.explainContainer(ctx, in, e)
	case sshx.KindTooManySessions:
		return &Error{Kind: KindContainer, Problem: "the SSH server in the instance's container allows no further session", Err: err,
			Tip: "capture on fewer of its interfaces at a time"}
	case sshx.KindNoCommonCrypto:
		return &Error{Kind: KindSSHUnreachable, Problem: "the platform's SSH endpoint " + c.sshAddress() + " has no algorithm in common with this program: " + e.Problem, Err: err,
			Tip: "tell the platform's operators: it allows none that is held to be safe today"}
	case sshx.KindHostKey, sshx.KindAuth: // in the words of whatever refused
		return err
	case sshx.KindNotSSH:
		return &Error{Kind: KindSSHUnreachable, Problem: "the platform's SSH endpoint " + c.sshAddress() + " cannot be reached: " + e.Problem, Err: err,
			Tip: "something in between answers in its place: check proxies and firewalls"}
	}
	return &Error{Kind: KindSSHUnreachable, Problem: "the platform's SSH endpoint " + c.sshAddress() + " cannot be reached: " + e.Problem, Err: err,
		Tip: "check the network and firewalls for that port; ALL_PROXY=socks5://HOST:PORT names a proxy for SSH"}
}

// explainLoss is about a connection, or a session on it, that broke off.
func (c *Client) explainLoss(ctx context.Context, in Instance, err error) error {
	if e, ok := errors.AsType[*Error](c.noLonger(ctx, in)); ok {
		_, state, _ := strings.Cut(e.Problem, " is now ")
		return &Error{Kind: e.Kind, Problem: cmp.Or(strings.ToLower(state), "scaled down or deployed anew"), Tip: e.Tip, Err: err}
	}
	const goesOn = "; --follow connects again"
	if errors.Is(err, sshx.ErrKeepAlive) {
		return &Error{Kind: KindLost, Problem: fmt.Sprintf("connection lost: nothing has come for %v", (keepAliveMax+1)*keepAlive), Err: err,
			Tip: "check the network to the platform's SSH endpoint " + c.sshAddress() + goesOn}
	}
	return &Error{Kind: KindLost, Problem: "the connection to the instance's container was lost", Err: err,
		Tip: "'cf events " + shellWord(in.App) + "' and 'cf app " + shellWord(in.App) + "' show whether it was restarted" + goesOn}
}

func (c *Client) sshAddress() string {
	if r := c.known(); r != nil {
		return oneLine(r.SSH)
	}
	return ""
}

// explainContainer is about connections that are accepted and then lead nowhere.
func (c *Client) explainContainer(ctx context.Context, in Instance, e *sshx.Error) error {
	if e.Kind == sshx.KindCommandRefused && e.Err == nil {
		return &Error{Kind: KindContainer, Problem: "the SSH server in the instance's container does not run commands", Err: e,
			Tip: "see whether 'cf ssh " + shellWord(in.App) + " -c true' works"}
	}
	if moved := c.noLonger(ctx, in); moved != nil {
		return moved
	}
	return &Error{Kind: KindContainer, Problem: "logged in, but the SSH server in the instance's container cannot be reached", Err: e,
		Tip: "the instance may just be stopping or moving: see 'cf app " + shellWord(in.App) + "'; if it runs, restart it with 'cf restart-app-instance " +
			shellWord(in.App) + fmt.Sprintf(" %d --process %s'", in.Index, shellWord(in.Process))}
}

// explainRefusal finds out why a login was refused: all refusals look the same.
func (c *Client) explainRefusal(ctx context.Context, in Instance, err error) error {
	if moved := c.noLonger(ctx, in); moved != nil {
		return moved
	}
	disabled := c.sshDisabled(ctx, in.AppGUID, in.App)
	if ctx.Err() != nil {
		return &Error{Kind: KindLoginRefused, Err: err, Problem: "the platform refuses the login to the instance", Tip: c.rolesTip()}
	}
	if disabled != nil {
		disabled.Err = err
		return disabled
	}
	return &Error{Kind: KindLoginRefused, Err: err,
		Problem: "the platform refuses the login to the instance, although SSH is enabled for the app",
		Tip:     c.rolesTip() + "; when SSH was enabled after the app was started, 'cf restart " + shellWord(in.App) + "' makes it so"}
}

// sshDisabled asks the platform whether SSH is enabled for an app. It is nil where it is, and where the platform does not
// say.
func (c *Client) sshDisabled(ctx context.Context, guid, app string) *Error {
	var v struct {
		Enabled bool
		Reason  string
	}
	if err := c.getJSON(ctx, c.api.JoinPath("/v3/apps/", url.PathEscape(guid), "/ssh_enabled"), &v); err != nil || v.Enabled {
		return nil
	}
	reason := c.secrets.redact(oneLine(v.Reason))
	if reason == "" {
		reason = "ssh is disabled"
	}
	return problem(KindSSHDisabled, c.enableTip(reason, app), "%s", reason)
}

// CheckSSH reports whether the platform disables SSH for the app of an instance: one question in place of a refused login
// to each of its instances. Once it does not, the platform is not asked about that app again.
func (c *Client) CheckSSH(ctx context.Context, in Instance) error {
	c.sshMu.Lock()
	enabled := c.sshEnabled[in.AppGUID]
	c.sshMu.Unlock()
	if enabled {
		return nil
	}
	if disabled := c.sshDisabled(ctx, in.AppGUID, in.App); disabled != nil {
		disabled.Problem = "app '" + in.App + "': " + disabled.Problem
		return disabled
	}
	c.sshMu.Lock()
	defer c.sshMu.Unlock()
	if c.sshEnabled == nil {
		c.sshEnabled = make(map[string]bool)
	}
	c.sshEnabled[in.AppGUID] = true
	return nil
}

// enableTip goes by the reasons that the API gives.
func (c *Client) enableTip(reason, app string) string {
	restart := ", then 'cf restart " + shellWord(app) + "'"
	switch {
	case strings.Contains(reason, "globally"):
		return "only the platform's operators can allow it"
	case strings.Contains(reason, "for space"):
		return "a space manager allows it with 'cf allow-space-ssh " + shellWord(c.space.Name) + "'; the app needs 'cf enable-ssh " + shellWord(app) + "' too" + restart
	}
	return "'cf enable-ssh " + shellWord(app) + "'" + restart + ": running instances take it over only then"
}

// noLonger reports whether the instance has stopped running, or was replaced, since it was found. It is nil also when the
// platform cannot be asked.
func (c *Client) noLonger(ctx context.Context, in Instance) error {
	rows, err := c.stats(ctx, process{GUID: in.ProcessGUID})
	if err != nil && KindOf(err) != KindNotFound {
		return nil
	}
	for _, r := range rows {
		if r.Index != in.Index {
			continue
		}
		if r.State != running {
			return problem(KindNotRunning, stateTip(Target{App: in.App}, r.State), "instance %d of process %s is now %s", in.Index, in.Process, oneLine(r.State))
		}
		return nil
	}
	return problem(KindNotRunning, "the app was scaled down or deployed anew: see 'cf app "+shellWord(in.App)+"'", "instance %d of process %s is gone", in.Index, in.Process)
}
