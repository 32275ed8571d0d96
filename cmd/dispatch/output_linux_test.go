package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"dispatch/testdata/loopback"
	"dispatch/testdata/netlab"
	"dispatch/testdata/world"
)

// A gateway whose output nobody reads any more, as behind `| head`, serves on; with --debug it writes for each session.
func TestServesOnWhenNobodyReadsItsOutput(t *testing.T) {
	lab := world.New(t, netlab.Config{})
	for name, read := range map[string]bool{"from the start": false, "after the first byte": true} {
		t.Run(name, func(t *testing.T) {
			at := loopback.Refusing(t).String()
			reader, output, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), self)
			cmd.Args = []string{"dispatch", "--debug", "start", "--socks", "off", "--http", at, lab.Uplink(0).Name}
			cmd.Stdout, cmd.Stderr = output, output
			closeReader := func() {
				if err := reader.Close(); err != nil {
					t.Error(err)
				}
			}
			if !read {
				closeReader()
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			if err := output.Close(); err != nil {
				t.Fatal(err)
			}
			if read {
				if _, err := reader.Read(make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				closeReader()
			}

			proxied := &http.Client{
				Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: at})},
				Timeout:   10 * time.Second,
			}
			defer proxied.CloseIdleConnections()
			get := func() error {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+world.Server4+"/", nil)
				if err != nil {
					return err
				}
				resp, err := proxied.Do(req)
				if err != nil {
					return err
				}
				defer func() { _ = resp.Body.Close() }() // it is read to its end
				body, err := io.ReadAll(resp.Body)
				if err == nil && !strings.Contains(string(body), lab.Uplink(0).IPv4.Addr().String()) {
					err = fmt.Errorf("%s: %s", resp.Status, body)
				}
				return err
			}
			for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				if err = get(); err == nil || time.Now().After(end) {
					break
				}
			}
			for range 3 {
				if err == nil {
					err = get()
				}
			}
			if err != nil {
				t.Error(err)
			}
			select {
			case err := <-ended:
				t.Fatalf("dispatch has ended: %v", err)
			default:
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("dispatch ended with %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Error("dispatch has not ended after 20 s")
			}
		})
	}
}
