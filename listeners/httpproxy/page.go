package httpproxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"dispatch/dispatcher"
)

// replyTo translates the class of a failure to what a client is told. The errors' own texts are for the log: they can
// name this machine's addresses.
func replyTo(class dispatcher.Class) (status int, text string) {
	switch class {
	case dispatcher.InvalidRequest:
		return http.StatusBadRequest, "no destination can be meant by it"
	case dispatcher.NotAllowed:
		return http.StatusForbidden, "the gateway makes no connections to itself, and for other machines none to its own networks"
	case dispatcher.UnknownHost:
		return http.StatusBadGateway, "no such host, or it has no address"
	case dispatcher.ResolveFailed:
		return http.StatusBadGateway, "the name could not be looked up"
	case dispatcher.ResolveTimedOut:
		return http.StatusGatewayTimeout, "the look-up was not answered in time"
	case dispatcher.NoUplink:
		return http.StatusBadGateway, "no uplink that may be used has an address of its family (IPv4 or IPv6)"
	case dispatcher.Refused:
		return http.StatusBadGateway, "it refused the connection"
	case dispatcher.NetworkUnreachable:
		return http.StatusBadGateway, "its network cannot be reached"
	case dispatcher.HostUnreachable:
		return http.StatusBadGateway, "it cannot be reached"
	case dispatcher.TimedOut:
		return http.StatusGatewayTimeout, "it did not answer in time"
	case dispatcher.Exhausted:
		return http.StatusServiceUnavailable, "the gateway has run out of descriptors, ports or memory; try again"
	case dispatcher.ClientBroken:
		return http.StatusBadRequest, "the request could not be read to its end"
	case dispatcher.DestinationBroken:
		return http.StatusBadGateway, "it broke off before it had answered, or its answer is not HTTP"
	case dispatcher.Canceled, dispatcher.Closed:
		return http.StatusServiceUnavailable, "the request was given up"
	}
	return http.StatusBadGateway, "all attempts failed; the gateway's log says why"
}

// doing says at what a request failed.
func doing(step dispatcher.Step) string {
	switch step {
	case dispatcher.StepCheck:
		return "understand the request for"
	case dispatcher.StepResolve:
		return "look up"
	case dispatcher.StepChoose:
		return "choose a line to"
	case dispatcher.StepConnect:
		return "connect to"
	case dispatcher.StepAnswer:
		return "get an answer from"
	}
	return "reach"
}

// failure makes the page for a request that failed. The host has been checked, so it can be printed.
func failure(r *http.Request, host string, err error) *http.Response {
	var step dispatcher.Step
	status, text := replyTo(dispatcher.ClassOf(err))
	if e, ok := errors.AsType[*dispatcher.Error](err); ok {
		step = e.Step
		if step == dispatcher.StepCheck {
			text = e.Err.Error() // it knows what the client sent, and nothing else
		}
	}
	return page(r, status, fmt.Sprintf("could not %s %s: %s", doing(step), host, text))
}

// page makes a short answer of our own. It is plain text: that reads well in browsers and terminals alike, and
// nothing in it can be taken for markup.
func page(r *http.Request, status int, text string) *http.Response {
	body := fmt.Sprintf("%d %s\n\ndispatch: %s.\n", status, http.StatusText(status), text)
	p := textPage(r, status, body)
	// What else the client has sent, behind a CONNECT that failed say, is not a request.
	p.Header.Set("Connection", "close")
	p.Close = true
	return p
}

func textPage(r *http.Request, status int, body string) *http.Response {
	p := &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: min(1, r.ProtoMinor), Request: r,
		Header: http.Header{
			"Cache-Control":          {"no-store"},
			"Content-Length":         {strconv.Itoa(len(body))},
			"Content-Type":           {"text/plain; charset=utf-8"},
			"X-Content-Type-Options": {"nosniff"},
		},
		ContentLength: int64(len(body)),
		Body:          io.NopCloser(strings.NewReader(body)),
	}
	if r.Method == http.MethodHead {
		p.Body = http.NoBody
	}
	return p
}

// reply writes a page. That the client has gone meanwhile is its own affair.
func reply(w http.ResponseWriter, p *http.Response) {
	for name, values := range p.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(p.StatusCode)
	_, _ = io.Copy(w, p.Body)
}
