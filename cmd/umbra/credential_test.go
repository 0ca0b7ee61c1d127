package main

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/umbra-iot/umbra/internal/client"
)

// Operators who change a file of users at the same time lose nothing.
func TestChangesOfAFileAtTheSameTime(t *testing.T) {
	t.Parallel()
	const n = 16
	file := filepath.Join(t.TempDir(), "users.yaml")
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if _, _, err := fileVault(file).MakeCredential(t.Context(), tokens, client.CredentialRequest{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if list, err := fileVault(file).Credentials(t.Context(), tokens); err != nil || len(list) != n {
		t.Errorf("the file has %d tokens, %v; want %d", len(list), err, n)
	}
}
