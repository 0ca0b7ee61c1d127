// Baremochi is the broker library that Umbra embeds, with nothing around it: the
// floor that benchmarks compare umbrad with. It listens on a loopback port that
// the system chooses, prints one line "baremochi ready mqtt=ADDR" on stdout, and
// ends with SIGTERM or when its standard input is closed.
package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "baremochi:", err)
		os.Exit(1)
	}
}

func run(stdin io.Reader, stdout io.Writer) error {
	end := make(chan os.Signal, 2)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		end <- syscall.SIGTERM
	}()
	server := mqtt.New(&mqtt.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := server.AddHook(new(allowAll), nil); err != nil {
		return err
	}
	tcp := listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})
	if err := server.AddListener(tcp); err != nil {
		return err
	}
	if err := server.Serve(); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "baremochi ready mqtt=%s\n", tcp.Address())
	<-end
	return server.Close()
}

// allowAll lets everybody do everything.
type allowAll struct{ mqtt.HookBase }

// ID names the hook.
func (*allowAll) ID() string { return "allow-all" }

// Provides tells which events the hook is for.
func (*allowAll) Provides(b byte) bool {
	return b == mqtt.OnConnectAuthenticate || b == mqtt.OnACLCheck
}

// OnConnectAuthenticate accepts every client.
func (*allowAll) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

// OnACLCheck allows every topic.
func (*allowAll) OnACLCheck(*mqtt.Client, string, bool) bool { return true }
