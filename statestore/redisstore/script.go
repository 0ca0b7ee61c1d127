package redisstore

import (
	"crypto/sha1" // names scripts, as Redis does; it protects nothing
	_ "embed"
	"encoding/hex"
)

// script is a Lua script with the name that Redis knows it by.
type script struct{ source, sha string }

func newScript(source string) script {
	sum := sha1.Sum([]byte(source))
	return script{source: source, sha: hex.EncodeToString(sum[:])}
}

//go:embed write.lua
var writeSource string

//go:embed put.lua
var putSource string
