package machine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// rtnetlink is a route netlink socket that asks one question at a time. It takes the place of the netlink library
// that changes routes and rules in policyroutes: that one parses the private data of every kind of link, asks for
// statistics and virtual functions too, has panicked or failed on what it found there (vishvananda/netlink issues 509,
// 960, 1099), and takes 2.6 times as long for a list of interfaces. A dial must not stumble over a link it has nothing
// to do with.
type rtnetlink struct {
	fd  int
	seq uint32
	buf []byte // the last answer
	req []byte // the last question
}

const (
	// datagramRoom is offered to each datagram, never more: the kernel makes those of a dump as large as the largest
	// room it has been offered (netlink_dump in af_netlink.c), up to 32 KiB.
	datagramRoom = 16 << 10
	// dumpTries: a dump that a change interrupts may miss entries and is asked for again. Each change interrupts
	// one try at most, so this rides out bursts; changes without end are a machine in trouble.
	dumpTries = 30
	// answerTimeout, in seconds, only keeps a lost answer from hanging a dial; the kernel answers in microseconds.
	answerTimeout = 5
	// attributeTypeMask leaves out the two upper bits, which say how a value is encoded, not what it is.
	attributeTypeMask = 0x3fff
)

var errDumpInterrupted = errors.New("the kernel's tables changed while they were read")

func openNetlink() (*rtnetlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	n := &rtnetlink{fd: fd, buf: *buffers.Get().(*[]byte)}
	timeout := unix.Timeval{Sec: answerTimeout}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return nil, errors.Join(fmt.Errorf("set SO_RCVTIMEO of a netlink socket: %w", err), n.close())
	}
	return n, nil
}

// buffers are for the next sockets to come: to make and to clear one costs more than a look-up.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 2*datagramRoom); return &b }}

// close ends the socket, and the life of the last answer.
func (n *rtnetlink) close() error {
	buffers.Put(&n.buf)
	if err := unix.Close(n.fd); err != nil {
		return fmt.Errorf("close a netlink socket: %w", err)
	}
	return nil
}

// dump asks for all entries of a kind and returns the answer's messages, which the next question overwrites.
func (n *rtnetlink) dump(kind uint16, payload []byte) ([]byte, error) {
	for range dumpTries {
		answer, err := n.dumpOnce(kind, payload)
		if !errors.Is(err, errDumpInterrupted) {
			return answer, err
		}
	}
	return nil, fmt.Errorf("%w, %d times in a row; try again", errDumpInterrupted, dumpTries)
}

func (n *rtnetlink) dumpOnce(kind uint16, payload []byte) ([]byte, error) {
	if err := n.send(kind, unix.NLM_F_DUMP, payload); err != nil {
		return nil, err
	}
	n.buf = n.buf[:0]
	interrupted := false
	for {
		from := len(n.buf)
		if err := n.receive(); err != nil {
			return nil, err
		}
		for m := range messages(n.buf[from:]) {
			if m.seq != n.seq {
				continue
			}
			interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
			if m.kind != unix.NLMSG_DONE && m.kind != unix.NLMSG_ERROR {
				continue
			}
			if err := m.errno(); err != nil {
				return nil, err
			}
			if interrupted {
				return nil, errDumpInterrupted
			}
			return n.buf, nil
		}
	}
}

// ask puts a question that has one message for an answer, which the next question overwrites. A refusal by the
// kernel is a refusedError.
func (n *rtnetlink) ask(kind uint16, payload []byte) (message, error) {
	if err := n.send(kind, 0, payload); err != nil {
		return message{}, err
	}
	for {
		n.buf = n.buf[:0]
		if err := n.receive(); err != nil {
			return message{}, err
		}
		for m := range messages(n.buf) {
			if m.seq != n.seq {
				continue
			}
			if m.kind == unix.NLMSG_ERROR {
				return message{}, m.errno()
			}
			return m, nil
		}
	}
}

func (n *rtnetlink) send(kind, flags uint16, payload []byte) error {
	n.seq++
	b := n.req[:0]
	b = binary.NativeEndian.AppendUint32(b, uint32(unix.SizeofNlMsghdr+len(payload)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags|unix.NLM_F_REQUEST)
	b = binary.NativeEndian.AppendUint32(b, n.seq)
	b = binary.NativeEndian.AppendUint32(b, 0) // the kernel fills in the sender
	b = append(b, payload...)
	n.req = b
	// An unconnected netlink socket writes to the kernel.
	if _, err := unix.Write(n.fd, n.req); err != nil {
		return fmt.Errorf("send to netlink: %w", err)
	}
	return nil
}

// receive appends one datagram of the kernel to buf.
func (n *rtnetlink) receive() error {
	n.buf = slices.Grow(n.buf, datagramRoom)
	room := n.buf[len(n.buf) : len(n.buf)+datagramRoom]
	for {
		size, sender, err := unix.Recvfrom(n.fd, room, unix.MSG_TRUNC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("receive from netlink: %w", err)
		}
		if from, ok := sender.(*unix.SockaddrNetlink); !ok || from.Pid != 0 {
			continue // a process, not the kernel
		}
		if size > len(room) {
			return fmt.Errorf("receive from netlink: an answer of %d bytes, larger than the %d offered", size, len(room))
		}
		n.buf = n.buf[:len(n.buf)+size]
		return nil
	}
}

// refusedError is the kernel's "no" to a question.
type refusedError struct{ errno unix.Errno }

func (e refusedError) Error() string { return "netlink: " + e.errno.Error() }
func (e refusedError) Unwrap() error { return e.errno }

// message is one netlink message (RFC 3549 section 2.3.2).
type message struct {
	kind, flags uint16
	seq         uint32
	body        []byte
}

// errno reads the code that ends a dump and makes up an error message; 0, or none, is success.
func (m message) errno() error {
	if len(m.body) < 4 {
		return nil
	}
	if code := int32(binary.NativeEndian.Uint32(m.body)); code != 0 {
		return refusedError{unix.Errno(-code)}
	}
	return nil
}

// messages walks over the messages of a datagram, or of several in a row, up to the first malformed one.
func messages(b []byte) iter.Seq[message] {
	return func(yield func(message) bool) {
		for len(b) >= unix.SizeofNlMsghdr {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.SizeofNlMsghdr || size > len(b) {
				return
			}
			m := message{
				kind:  binary.NativeEndian.Uint16(b[4:]),
				flags: binary.NativeEndian.Uint16(b[6:]),
				seq:   binary.NativeEndian.Uint32(b[8:]),
				body:  b[unix.SizeofNlMsghdr:size],
			}
			if !yield(m) {
				return
			}
			b = b[min(align4(size), len(b)):]
		}
	}
}

// attributes walks over the attributes in b, up to the first malformed one.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			size := int(binary.NativeEndian.Uint16(b))
			if size < unix.SizeofRtAttr || size > len(b) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(b[2:])&attributeTypeMask, b[unix.SizeofRtAttr:size]) {
				return
			}
			b = b[min(align4(size), len(b)):]
		}
	}
}

// appendAttribute appends one attribute; its value's length must be a multiple of 4, so that no padding is due.
func appendAttribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	return append(b, value...)
}

func appendAttribute32(b []byte, kind uint16, value uint32) []byte {
	return appendAttribute(b, kind, binary.NativeEndian.AppendUint32(nil, value))
}

// uint32Of reads an attribute's number; 0 where it is too short.
func uint32Of(value []byte) uint32 {
	if len(value) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(value)
}

func align4(n int) int { return (n + 3) &^ 3 }
