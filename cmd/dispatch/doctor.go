package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"dispatch/dispatcher/doctor"
	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/policyroutes"
	"dispatch/dispatcher/uplink"
)

type doctorCommand struct {
	Uplinks []string `arg:"" optional:"" name:"uplink" help:"The lines to examine, as for start. Without any: those start would use, and the others that look like lines."`

	Target  []string      `name:"target" sep:"none" placeholder:"HOST:PORT" help:"Connect to this server through every line; may be repeated."`
	EchoURL string        `name:"echo-url" placeholder:"URL" help:"Fetch this page, which tells its visitor's address, through every line."`
	Timeout time.Duration `default:"5s" help:"How long a target may take (default ${default})."`
	JSON    bool          `name:"json" help:"Print JSON, for programs."`
	Fix     bool          `help:"Install policy routes for the lines (Linux, as root), then examine them."`
	Unfix   bool          `help:"Remove what --fix installed, and what a crashed dispatch left behind."`
	Yes     bool          `short:"y" help:"With --fix or --unfix: do not ask first."`
}

// Run examines the lines. That one does not work is told by the error.
func (c *doctorCommand) Run(ctx context.Context, to terminal) error {
	specs, options, err := c.understand()
	if err != nil {
		return err
	}
	if c.Fix || c.Unfix {
		if err := c.change(to, specs); err != nil || c.Unfix {
			return err
		}
	}
	report, err := doctor.Examine(ctx, specs, options)
	if err != nil {
		return err
	}
	if c.JSON {
		encoder := json.NewEncoder(to.out)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(report)
	} else {
		err = printReport(to.out, report)
	}
	return errors.Join(err, verdict(report))
}

func (c *doctorCommand) understand() (specs []uplink.Spec, o doctor.Options, err error) {
	if specs, err = uplink.ParseSpecs(c.Uplinks); err != nil {
		return nil, o, &usageError{err}
	}
	for _, text := range c.Target {
		target, err := doctor.ParseTarget(text)
		if err != nil {
			return nil, o, usagef("--target: %w", err)
		}
		o.Targets = append(o.Targets, target)
	}
	if c.EchoURL != "" {
		u, err := url.Parse(c.EchoURL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, o, usagef("--echo-url: %q is no web address; write one such as https://example.com/ip", c.EchoURL)
		}
		o.EchoURL = c.EchoURL
	}
	switch {
	case c.Timeout <= 0:
		return nil, o, usagef("--timeout: %s is not a time a server could keep; write one such as 5s", c.Timeout)
	case c.Fix && c.Unfix:
		return nil, o, usagef("--fix and --unfix contradict each other; give one of them")
	case c.Unfix && len(c.Uplinks) > 0:
		return nil, o, usagef("--unfix removes all that was installed; leave the uplinks out")
	case c.Yes && !c.Fix && !c.Unfix:
		return nil, o, usagef("--yes answers a question that only --fix and --unfix ask")
	}
	o.Timeout = c.Timeout
	return specs, o, nil
}

// change installs or removes the policy routes. What it says goes to standard error, so that --json stays JSON.
func (c *doctorCommand) change(to terminal, specs []uplink.Spec) (err error) {
	if err := policyroutes.Allowed(); err != nil {
		return err
	}
	var change *policyroutes.Change
	what, done := "to be removed", "removed"
	if c.Fix {
		what, done = "to be run", "done"
		if len(specs) == 0 {
			if specs, err = chosenLines(to); err != nil {
				return err
			}
		}
		change, err = policyroutes.PlanFix(specs)
	} else {
		change, err = policyroutes.PlanUnfix()
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, change.Close()) }()
	for _, m := range change.Missing {
		family := ""
		if m.Family != 0 {
			family = m.Family.String() + ": "
		}
		fmt.Fprintf(to.err, "no route for %s: %s%s\n", m.Uplink, family, m.Problem)
	}
	if len(change.Commands) == 0 {
		nothing := "nothing has to be changed"
		if len(change.Missing) > 0 {
			nothing = "nothing else has to be changed"
		}
		fmt.Fprintln(to.err, nothing)
		return nil
	}
	fmt.Fprintf(to.err, "%s:\n", what)
	for _, command := range change.Commands {
		fmt.Fprintln(to.err, "  "+command)
	}
	if !c.Yes {
		if !term.IsTerminal(int(os.Stdin.Fd())) {
			return errors.New("there is no terminal to ask on; add --yes to change this without asking")
		}
		fmt.Fprint(to.err, "go on? [y/N] ")
		if yes, err := readYes(os.Stdin); err != nil || !yes {
			return errors.Join(errors.New("nothing was changed"), err)
		}
	}
	if err := change.Make(); err != nil {
		return err
	}
	_, err = fmt.Fprintln(to.err, done)
	return err
}

// chosenLines are the lines that start would use, and it says which others could be some if their user named them.
func chosenLines(to terminal) (specs []uplink.Spec, err error) {
	interfaces, err := new(machine.Table).Interfaces()
	if err != nil {
		return nil, err
	}
	for _, c := range uplink.Automatic(interfaces) {
		if c.Use {
			specs = append(specs, uplink.Spec{Name: c.Interface.Name, Weight: 1})
		}
	}
	for _, c := range doctor.Missed(interfaces) {
		fmt.Fprintf(to.err, "no route for %s: 'start' would not use it: %s; to make it a line, name it: dispatch doctor --fix %s\n",
			c.Interface.Name, c.Reason, word(c.Interface.Name))
	}
	return specs, nil
}

// readYes reads an answer; anything but a yes is a no.
func readYes(from io.Reader) (bool, error) {
	answer, err := bufio.NewReader(from).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}

// verdict is nil when all chosen lines are usable.
func verdict(report *doctor.Report) error {
	chosen, broken := 0, 0
	for _, l := range report.Lines {
		if l.Chosen {
			chosen++
			if !l.Usable {
				broken++
			}
		}
	}
	switch {
	case report.Usable:
		return nil
	case chosen == 0:
		return errors.New("no interface can be used; name one to have it examined, 'dispatch list --all' shows them")
	}
	return fmt.Errorf("%d of %d lines cannot be used as they are", broken, chosen)
}

// printReport prints a paragraph for each line; commands stand by themselves, so that they can be copied.
func printReport(out io.Writer, report *doctor.Report) error {
	var text strings.Builder
	for n, l := range report.Lines {
		if n > 0 {
			text.WriteString("\n")
		}
		text.WriteString(headline(l) + "\n")
		var fine []string
		for _, f := range l.Findings {
			mark := string(f.Status)
			switch {
			case f.Status == doctor.Pass && !tells(f.Check):
				if name := string(f.Check); !slices.Contains(fine, name) {
					fine = append(fine, name)
				}
				continue
			case f.Status == doctor.Pass:
				mark = "ok"
			case f.Status == doctor.Fail:
				mark = "FAIL"
			}
			fmt.Fprintf(&text, "  %-4s  %-14s  %-4s  %s\n", mark, f.Check, f.Family, f.Text)
			for _, command := range f.Commands {
				fmt.Fprintf(&text, "            %s\n", command)
			}
		}
		if len(fine) > 0 {
			fmt.Fprintf(&text, "  ok    %s\n", strings.Join(fine, ", "))
		}
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// tells says whether a passed check has something to tell beyond its name.
func tells(c doctor.Check) bool {
	switch c {
	case doctor.CheckSource, doctor.CheckRoute, doctor.CheckRouter, doctor.CheckTarget, doctor.CheckPeer:
		return true
	}
	return false
}

func headline(l doctor.Line) string {
	text := l.Uplink
	if l.Interface != "" && l.Interface != l.Uplink {
		text += " on " + l.Interface
	}
	if l.Kind != "" {
		text += " (" + l.Kind + ")"
	}
	switch {
	case !l.Chosen:
		return text + ": not chosen: " + l.Reason
	case l.Usable:
		return text + ": usable"
	}
	return text + ": does not work"
}
