package vpcd

import (
	"io"
	"net"
	"syscall"
)

// tcpQuickAck is TCP_QUICKACK of tcp(7). It does not last: the kernel goes back
// to delayed acknowledgements, so it is set for each frame.
const tcpQuickAck = 12

// acknowledge makes the kernel acknowledge what was received. It is an
// optimisation: errors do no harm.
func acknowledge(r io.Reader) {
	conn, ok := r.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpQuickAck, 1)
	})
}
