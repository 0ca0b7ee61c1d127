package credential

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/umbra-iot/umbra/internal/atomicfile"
)

// Sealer encrypts the secrets of access keys for the store (AES-256-GCM), so
// that a copy of the store alone does not give them away.
type Sealer struct{ aead cipher.AEAD }

const sealBytes = 32

// OpenSealer reads the key from a file, or makes up one and writes it there, with mode 600.
func OpenSealer(file string) (*Sealer, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		text = []byte(base64.StdEncoding.EncodeToString(random(sealBytes)) + "\n")
		if err = os.MkdirAll(filepath.Dir(file), 0o700); err == nil {
			err = atomicfile.Create(file, text, 0o600)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("credential: key of secrets: %w", err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != sealBytes {
		return nil, fmt.Errorf("credential: %s is not %d bytes in base64", file, sealBytes)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("credential: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("credential: %w", err)
	}
	return &Sealer{aead}, nil
}

// Seal encrypts the secret of the access key id.
func (s *Sealer) Seal(id, secret string) []byte {
	nonce := random(s.aead.NonceSize())
	return s.aead.Seal(nonce, nonce, []byte(secret), []byte(id))
}

// Open decrypts what Seal made for the same id.
func (s *Sealer) Open(id string, sealed []byte) (string, error) {
	n := s.aead.NonceSize()
	if len(sealed) < n {
		return "", errors.New("credential: sealed secret is too short")
	}
	secret, err := s.aead.Open(nil, sealed[:n], sealed[n:], []byte(id))
	if err != nil {
		return "", fmt.Errorf("credential: secret of %s was sealed by another key: %w", id, err)
	}
	return string(secret), nil
}
