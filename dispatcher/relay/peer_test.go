package relay

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// peerEnv makes the test binary play the two applications of a benchmark in
// a process of its own, so that what this process costs is the relay alone.
const peerEnv = "DISPATCH_RELAY_TEST_PEER"

func TestMain(m *testing.M) {
	if os.Getenv(peerEnv) != "" {
		if err := servePeer(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "peer:", err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// job is work for the peer: so many streams, each of Ops exchanges of Up bytes
// one way and Down bytes the other.
type job struct {
	Relay    string // where the client side dials
	Streams  int
	Ops      int
	Up, Down int
	Hold     bool // leave the streams open, without a word, until the next job
}

// result is the peer's answer.
type result struct {
	Nanos int64
	Error string
}

// peer is the other process.
type peer struct {
	Destination string // where its destination side listens
	cmd         *exec.Cmd
	in          io.WriteCloser
	jobs        *json.Encoder
	results     *json.Decoder
}

func startPeer(tb testing.TB) *peer {
	tb.Helper()
	ctx, kill := context.WithCancel(context.Background())
	p := &peer{cmd: exec.CommandContext(ctx, os.Args[0])}
	p.cmd.Env = append(os.Environ(), peerEnv+"=1")
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	must(tb, err)
	out, err := p.cmd.StdoutPipe()
	must(tb, err)
	must(tb, p.cmd.Start())
	p.in, p.jobs, p.results = in, json.NewEncoder(in), json.NewDecoder(out)
	must(tb, p.results.Decode(&p.Destination))
	tb.Cleanup(func() {
		defer kill()
		must(tb, p.in.Close())
		must(tb, p.cmd.Wait())
	})
	return p
}

func (p *peer) run(tb testing.TB, j job) time.Duration {
	tb.Helper()
	must(tb, p.jobs.Encode(j))
	var r result
	must(tb, p.results.Decode(&r))
	if r.Error != "" {
		tb.Fatal(r.Error)
	}
	return time.Duration(r.Nanos)
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func servePeer(in io.Reader, out io.Writer) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go acceptExchanges(listener)
	results := json.NewEncoder(out)
	if err := results.Encode(listener.Addr().String()); err != nil {
		return err
	}
	var held []*stream
	jobs := json.NewDecoder(bufio.NewReader(in))
	for {
		var j job
		if err := jobs.Decode(&j); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		for _, s := range held {
			s.conn.Close()
		}
		var r result
		var took time.Duration
		if held, took, err = j.run(); err != nil {
			r.Error = err.Error()
		}
		r.Nanos = took.Nanoseconds()
		if err := results.Encode(r); err != nil {
			return err
		}
	}
}

// stream is one client connection of a job.
type stream struct {
	conn     net.Conn
	up, down int
}

func (j job) run() (held []*stream, took time.Duration, err error) {
	streams := make([]*stream, j.Streams)
	for i := range streams {
		conn, err := net.Dial("tcp", j.Relay)
		if err != nil {
			return nil, 0, err
		}
		var head [16]byte
		binary.BigEndian.PutUint64(head[:], uint64(max(j.Up, 1)))
		binary.BigEndian.PutUint64(head[8:], uint64(max(j.Down, 1)))
		if _, err := conn.Write(head[:]); err != nil {
			return nil, 0, err
		}
		streams[i] = &stream{conn, max(j.Up, 1), max(j.Down, 1)}
		if err := streams[i].exchange(); err != nil { // warm-up: the stream is there
			return nil, 0, err
		}
	}
	began := time.Now()
	errs := make([]error, len(streams))
	var all sync.WaitGroup
	for i, s := range streams {
		all.Go(func() {
			for range j.Ops {
				if errs[i] = s.exchange(); errs[i] != nil {
					return
				}
			}
		})
	}
	all.Wait()
	took = time.Since(began)
	if j.Hold {
		return streams, took, errors.Join(errs...)
	}
	for _, s := range streams {
		s.conn.Close()
	}
	return nil, took, errors.Join(errs...)
}

// exchange sends up and receives down; both at once, if both are more than
// a word.
func (s *stream) exchange() error {
	if s.up == 1 || s.down == 1 {
		if err := send(s.conn, s.up); err != nil {
			return err
		}
		return receive(s.conn, s.down)
	}
	sent := make(chan error, 1)
	go func() { sent <- send(s.conn, s.up) }()
	err := receive(s.conn, s.down)
	return errors.Join(err, <-sent)
}

// chunk is how much the applications write and read at once.
const chunk = 256 << 10

var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

func send(w io.Writer, size int) error {
	b := chunks.Get().(*[chunk]byte)
	defer chunks.Put(b)
	for size > 0 {
		n, err := w.Write(b[:min(size, chunk)])
		if err != nil {
			return err
		}
		size -= n
	}
	return nil
}

func receive(r io.Reader, size int) error {
	b := chunks.Get().(*[chunk]byte)
	defer chunks.Put(b)
	for size > 0 {
		n, err := r.Read(b[:min(size, chunk)])
		if err != nil {
			return err
		}
		size -= n
	}
	return nil
}

// acceptExchanges plays the destination.
func acceptExchanges(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			var head [16]byte
			if _, err := io.ReadFull(conn, head[:]); err != nil {
				return
			}
			up := int(binary.BigEndian.Uint64(head[:]))
			down := int(binary.BigEndian.Uint64(head[8:]))
			for answer(conn, up, down) == nil {
			}
		}()
	}
}

func answer(conn net.Conn, up, down int) error {
	if up == 1 || down == 1 {
		if err := receive(conn, up); err != nil {
			return err
		}
		return send(conn, down)
	}
	if err := receive(conn, 1); err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() { sent <- send(conn, down) }()
	err := receive(conn, up-1)
	return errors.Join(err, <-sent)
}
