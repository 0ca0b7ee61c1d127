package main

import (
	"testing"

	"github.com/umbra-iot/umbra/internal/config"
)

func TestBoundsOfPasswords(t *testing.T) {
	t.Parallel()
	cmd, err := config.Load([]string{"--password-checks=3", "--waiting-logins=4", "--address-logins=5", "--remembered-logins=6"}, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	if o := passwordOptions(&cmd.Config); o.Parallel != 3 || o.Waiting != 4 || o.Each != 5 || o.Entries != 6 {
		t.Errorf("passwordOptions() = %+v", o)
	}
}
