//go:build tools

// Package tools names the newest restic, so that go.mod and go.sum pin it and everything it is made
// of. Nothing here is compiled: `cargo xtask bench` builds the command by its import path.
package tools

import (
	_ "github.com/restic/restic/cmd/restic"
)
