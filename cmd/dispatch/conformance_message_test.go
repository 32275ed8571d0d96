package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// message is an HTTP/1.1 message as a reader has it that forgives nothing and shares no code with the gateway. What it
// takes is what RFC 9112 lets a sender send.
type message struct {
	start  string   // the request line or status line
	fields []string // the field lines, trailers behind the others
	body   string
	whole  bool // the end of the message came, by its own framing
	clean  bool // the end of the connection is what ended it, in good order (section 6.3, 8)
}

var errCut = errors.New("cut")

// maxMessage bounds what a test reads of one message.
const maxMessage = 4 << 20

// readMessage reads one message. With isResponse, method is that of its request. io.EOF is the end of the connection
// before the message; errCut is one inside. Any other error is a violation. headed, unless nil, is called between the head
// and the content.
func readMessage(br *bufio.Reader, isResponse bool, method string, headed func(*message)) (m message, err error) {
	if m.start, err = strictLine(br); err != nil {
		return m, err
	}
	check := checkRequestLine
	if isResponse {
		check = checkStatusLine
	}
	if err := check(m.start); err != nil {
		return m, err
	}
	if err := m.readFields(br); err != nil {
		return m, err
	}
	if headed != nil {
		headed(&m)
	}
	length, coding := m.values("Content-Length"), m.values("Transfer-Encoding")
	status := m.status()
	switch {
	case len(length)+len(coding) > 1: // section 6.3: never both, nor one of them twice
		return m, fmt.Errorf("framed %d times", len(length)+len(coding))
	case isResponse && (method == "HEAD" || status < 200 || status == 204 || status == 304 || method == "CONNECT" && status < 300):
		m.whole = true
	case len(coding) == 1 && !strings.EqualFold(coding[0], "chunked"):
		return m, fmt.Errorf("transfer coding %q", coding[0])
	case len(coding) == 1:
		err = m.readChunks(br)
	case len(length) == 1:
		err = m.readLength(br, length[0])
	case isResponse:
		err = m.readToEnd(br)
	default:
		m.whole = true
	}
	return m, err
}

// strictLine reads a line that ends in CR LF and has no other of these (section 2.2).
func strictLine(br *bufio.Reader) (string, error) {
	var line []byte
	for {
		b, err := br.ReadByte()
		if err != nil && len(line) > 0 {
			return string(line), errCut
		}
		if err != nil {
			return "", io.EOF
		}
		switch line = append(line, b); {
		case b == '\n' && len(line) > 1 && line[len(line)-2] == '\r':
			return string(line[:len(line)-2]), nil
		case b == '\n':
			return string(line), errors.New("bare LF")
		case len(line) > 1 && line[len(line)-2] == '\r':
			return string(line), errors.New("bare CR")
		case len(line) > maxMessage:
			return "", errors.New("a line without an end")
		}
	}
}

// tokenRunes are those of RFC 9110 section 5.6.2.
const tokenRunes = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

func isToken(s string) bool { return s != "" && strings.Trim(s, tokenRunes) == "" }

// checkRequestLine holds a request line against section 3.
func checkRequestLine(line string) error {
	words := strings.Split(line, " ")
	if len(words) != 3 || !isToken(words[0]) || words[1] == "" || words[2] != "HTTP/1.1" {
		return fmt.Errorf("request line %.40q", line)
	}
	if strings.ContainsFunc(words[1], func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' }) {
		return fmt.Errorf("request target %.40q", words[1])
	}
	return nil
}

// checkStatusLine holds a status line against section 4.
func checkStatusLine(line string) error {
	words := strings.SplitN(line, " ", 3)
	if len(words) != 3 || words[0] != "HTTP/1.1" && words[0] != "HTTP/1.0" || len(words[1]) != 3 {
		return fmt.Errorf("status line %.40q", line)
	}
	if n, err := strconv.ParseUint(words[1], 10, 16); err != nil || n < 100 {
		return fmt.Errorf("status %q", words[1])
	}
	return nil
}

// readFields reads field lines up to the empty one (section 5; values: RFC 9110 section 5.5).
func (m *message) readFields(br *bufio.Reader) error {
	for {
		line, err := strictLine(br)
		switch {
		case errors.Is(err, io.EOF):
			return errCut
		case err != nil:
			return err
		case line == "":
			return nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isToken(name) {
			return fmt.Errorf("field %.40q", line)
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return fmt.Errorf("field value %.40q", line)
		}
		m.fields = append(m.fields, line)
	}
}

// values are those of all fields of a name.
func (m *message) values(name string) (all []string) {
	for _, f := range m.fields {
		if n, v, _ := strings.Cut(f, ":"); strings.EqualFold(n, name) {
			all = append(all, strings.Trim(v, " \t"))
		}
	}
	return all
}

// status is a response's.
func (m *message) status() int {
	_, rest, _ := strings.Cut(m.start, " ")
	n, _ := strconv.Atoi(rest[:min(3, len(rest))])
	return n
}

// closes tells whether the sender announces that it closes after the message (section 9.6).
func (m *message) closes() bool {
	for _, list := range m.values("Connection") {
		if slices.ContainsFunc(strings.Split(list, ","), func(s string) bool { return strings.EqualFold(strings.TrimSpace(s), "close") }) {
			return true
		}
	}
	return strings.HasPrefix(m.start, "HTTP/1.0") || m.clean
}

func (m *message) readN(br *bufio.Reader, n uint64) error {
	if n > maxMessage {
		return fmt.Errorf("%d bytes of content", n)
	}
	data := make([]byte, n)
	got, err := io.ReadFull(br, data)
	m.body += string(data[:got])
	if err != nil {
		return errCut
	}
	return nil
}

func (m *message) readLength(br *bufio.Reader, text string) error {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return fmt.Errorf("Content-Length %.40q", text)
	}
	err = m.readN(br, n)
	m.whole = err == nil
	return err
}

// readChunks reads content in chunks, without extensions, which a gateway is not to pass on (section 7.1).
func (m *message) readChunks(br *bufio.Reader) error {
	for {
		line, err := strictLine(br)
		if errors.Is(err, io.EOF) {
			err = errCut
		}
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(line, 16, 63)
		switch {
		case err != nil:
			return fmt.Errorf("chunk size %.40q", line)
		case size == 0:
			err := m.readFields(br)
			m.whole = err == nil
			return err
		}
		if err := m.readN(br, size); err != nil {
			return err
		}
		switch end, err := strictLine(br); {
		case err == nil && end != "":
			return fmt.Errorf("%.40q behind a chunk", end)
		case errors.Is(err, io.EOF):
			return errCut
		case err != nil:
			return err
		}
	}
}

// readToEnd reads content that the connection's end ends.
func (m *message) readToEnd(br *bufio.Reader) error {
	data, err := io.ReadAll(io.LimitReader(br, maxMessage))
	m.body = string(data)
	if err != nil {
		return errCut
	}
	m.whole, m.clean = true, true
	return nil
}

// The reader that judges the gateway has to be right itself.
func TestStrictReader(t *testing.T) {
	t.Parallel()
	const req, resp = "POST /a HTTP/1.1\r\n", "HTTP/1.1 200 OK\r\n"
	for text, want := range map[string]string{
		"":                                   "EOF",
		req + "\r\n":                         "whole \"\"",
		req + "Content-Length: 2\r\n\r\nok":  "whole \"ok\"",
		req + "Content-Length: 3\r\n\r\nok":  "cut",
		req + "Content-Length: -0\r\n\r\n":   "Content-Length \"-0\"",
		req + "A: b\r\n":                     "cut",
		req[:9]:                              "cut",
		req + "A: b\n\r\n":                   "bare LF",
		req + "A: b\rc\r\n\r\n":              "bare CR",
		req + "A : b\r\n\r\n":                `field "A : b"`,
		req + " b\r\n\r\n":                   `field " b"`,
		req + "A: \x01\r\n\r\n":              `field value "A: \x01"`,
		"POST  /a HTTP/1.1\r\n\r\n":          `request line "POST  /a HTTP/1.1"`,
		"POST /a HTTP/1.0\r\n\r\n":           `request line "POST /a HTTP/1.0"`,
		"POST /a#b HTTP/1.1\r\n\r\n":         `request target "/a#b"`,
		"HTTP/1.1  200\r\n\r\n":              `status line "HTTP/1.1  200"`,
		resp + "\r\nok":                      "whole \"ok\"",
		resp + "Content-Length: 1\r\n\r\nok": "whole \"o\"",
		resp + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n":                 "framed 2 times",
		resp + "Transfer-Encoding: gzip\r\n\r\n":                                         `transfer coding "gzip"`,
		resp + "Transfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\nA: b\r\n\r\n": "whole \"ok\"",
		resp + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n":                      "cut",
		resp + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n":                           "cut",
		resp + "Transfer-Encoding: chunked\r\n\r\n2;a\r\nok\r\n0\r\n\r\n":                `chunk size "2;a"`,
		resp + "Transfer-Encoding: chunked\r\n\r\n2\r\noke\r\n0\r\n\r\n":                 `"e" behind a chunk`,
	} {
		m, err := readMessage(bufio.NewReader(strings.NewReader(text)), strings.HasPrefix(text, "HTTP"), "GET", nil)
		got := fmt.Sprintf("whole %q", m.body)
		if err != nil {
			got = err.Error()
		}
		if got != want || m.whole != (err == nil) {
			t.Errorf("%q: %s, whole %t; want %s", text, got, m.whole, want)
		}
	}
}
