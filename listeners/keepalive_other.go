//go:build !linux

package listeners

import "net"

// keepClientsAlive has package net set each accepted socket.
func keepClientsAlive(lc *net.ListenConfig) { lc.KeepAliveConfig = keepAlive }
