// Package routing is what the tests of routes do on a test network: they run the commands that are printed, dial through a
// line, and have routers met.
package routing
