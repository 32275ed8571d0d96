package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/alecthomas/kong"
)

// examples end the help of each command.
var examples = map[string]string{
	"": `Examples:
  dispatch list                     show the lines this machine has
  dispatch start                    use all that lead to the internet
  dispatch start eth0@7 wlan0@3     7 of 10 connections by eth0, 3 by wlan0
  dispatch doctor                   say why a line does not work
  dispatch help start               all about start`,
	"doctor": `Examples:
  dispatch doctor                                   all lines, and what is wrong with them
  dispatch doctor eth0 wlan0 --target example.com:443
  dispatch doctor --json                            for programs; the exit code is 1 if a line does not work
  sudo dispatch doctor --fix eth0 wlan0             install policy routes for both
  sudo dispatch doctor --unfix                      remove them again`,
	"list": `Examples:
  dispatch list                     the usable interfaces, as a table
  dispatch list --all               also those that are down or have no usable address
  dispatch list --json              for programs`,
	"start": `Examples:
  dispatch start                                    all lines with a default route, in equal parts
  dispatch start eth0@7 wlan0@3                     by interface, 7:3
  dispatch start 10.0.0.5/7 10.0.1.5/3              by local address, 7:3
  dispatch start --socks :1080 --http :8080 eth0 wlan0
  dispatch start --ip 127.0.0.1 --port 10806 192.168.110.101@7 192.168.110.102@3
  dispatch start --http off --dns 9.9.9.9,149.112.112.112 eth0 wlan0
  dispatch start --probe http://example.com/ eth0 wlan0       find out about recovery with a target of yours
  curl -x socks5h://127.0.0.1:1080 https://example.com/
  curl -x http://127.0.0.1:8080 https://example.com/`,
	"explain": `Examples:
  dispatch explain example.com:443                  with the lines that start would choose
  dispatch explain example.com:443 eth0@7 wlan0@3   with these
  dispatch explain --dns 9.9.9.9 [2001:db8::1]:443 eth0`,
}

// printHelp is kong's help with the command's examples behind it.
func printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	if err := kong.DefaultHelpPrinter(options, ctx); err != nil {
		return err
	}
	name := ""
	if node := ctx.Selected(); node != nil {
		name = node.Name
	}
	if text := examples[name]; text != "" {
		if _, err := fmt.Fprintf(ctx.Stdout, "\n%s\n", text); err != nil {
			return err
		}
	}
	return nil
}

// version tells what was built: the module's version or the commit, Go's version and the platform.
func version() string {
	number, dirty := "(unknown)", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		number = info.Main.Version
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				if number == "" || number == "(devel)" {
					number = s.Value[:min(12, len(s.Value))]
				}
			case "vcs.modified":
				if s.Value == "true" {
					dirty = " (modified)"
				}
			}
		}
	}
	return fmt.Sprintf("dispatch %s%s %s %s/%s", number, dirty, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
