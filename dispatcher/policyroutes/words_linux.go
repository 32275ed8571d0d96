package policyroutes

import (
	"fmt"
	"strconv"
	"strings"

	"dispatch/dispatcher/machine"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Quote makes one word of a shell's command out of text.
func Quote(text string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-:@%+="
	if text != "" && strings.Trim(text, plain) == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

func ipCommand(f machine.Family, rest string) string {
	if f == machine.IPv6 {
		return "ip -6 " + rest
	}
	return "ip " + rest
}

// routeWords writes a route as ip(8) reads it.
func routeWords(r netlink.Route, device string) string {
	words := []string{"default"}
	if ones, _ := r.Dst.Mask.Size(); ones > 0 {
		words[0] = r.Dst.String()
	}
	if r.Gw != nil {
		words = append(words, "via", r.Gw.String())
	}
	words = append(words, "dev", Quote(device))
	if r.Scope == unix.RT_SCOPE_LINK && r.Family == unix.AF_INET {
		words = append(words, "scope", "link")
	}
	words = append(words, "table", strconv.Itoa(r.Table), "proto", strconv.Itoa(int(r.Protocol)))
	if r.Priority != 0 {
		words = append(words, "metric", strconv.Itoa(r.Priority))
	}
	if r.Flags&int(netlink.FLAG_ONLINK) != 0 {
		words = append(words, "onlink")
	}
	return strings.Join(words, " ")
}

// ruleWords writes a rule as ip(8) reads it.
func ruleWords(r netlink.Rule) string {
	words := []string{"pref " + strconv.Itoa(r.Priority)}
	if r.Invert {
		words = append([]string{"not"}, words...)
	}
	add := func(key, value string) { words = append(words, key, value) }
	if r.Src != nil {
		add("from", r.Src.String())
	} else {
		add("from", "all")
	}
	if r.Dst != nil {
		add("to", r.Dst.String())
	}
	if r.Mark != 0 || r.Mask != nil {
		mark := fmt.Sprintf("%#x", r.Mark)
		if r.Mask != nil && *r.Mask != 0xffffffff {
			mark += fmt.Sprintf("/%#x", *r.Mask)
		}
		add("fwmark", mark)
	}
	if r.IifName != "" {
		add("iif", Quote(r.IifName))
	}
	if r.OifName != "" {
		add("oif", Quote(r.OifName))
	}
	if r.Table != 0 {
		name := strconv.Itoa(r.Table)
		if r.Table == unix.RT_TABLE_MAIN {
			name = "main"
		}
		add("lookup", name)
	}
	if r.SuppressPrefixlen >= 0 {
		add("suppress_prefixlength", strconv.Itoa(r.SuppressPrefixlen))
	}
	if r.Protocol != 0 && r.Protocol != unix.RTPROT_BOOT && r.Protocol != unix.RTPROT_KERNEL {
		add("protocol", strconv.Itoa(int(r.Protocol)))
	}
	return strings.Join(words, " ")
}
