// Package atomicfile replaces files at once: who reads one sees what it was or
// what it is to be, and nothing between them, also after a crash. What has been
// written outlives a power cut, where directories can be synced.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Write replaces the file called name, or what it leads to where it is a symbolic link. A file that is there keeps its
// owner, group, mode and, on Linux, access control list: so who could read it still can. A new one has mode. The error
// is also that of what cannot be kept; after one everything is as it was.
func Write(name string, data []byte, mode fs.FileMode) error {
	name, err := Target(name)
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+"-*") // has mode 0600
	if err != nil {
		return fmt.Errorf("atomicfile: %w", err)
	}
	defer os.Remove(temp.Name()) // gone already when all went well
	err = resemble(temp, name, mode)
	if err == nil {
		_, err = temp.Write(data)
	}
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return fmt.Errorf("atomicfile: %s stays as it was: %w", name, err)
	}
	if err := os.Rename(temp.Name(), name); err != nil {
		return fmt.Errorf("atomicfile: %w", err)
	}
	settle(name)
	return nil
}

// Create writes a new file with a mode. Where there is one, it changes nothing and its error is [fs.ErrExist]. After
// any other error there is none.
func Create(name string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("atomicfile: %w", err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("atomicfile: %w", errors.Join(err, os.Remove(name)))
	}
	settle(name)
	return nil
}

// settle has the name of a file outlive a power cut, as far as the system can do that: the file itself is synced already.
func settle(name string) {
	if dir, err := os.Open(filepath.Dir(name)); err == nil {
		_ = dir.Sync()
		_ = dir.Close()
	}
}

// Target returns the name of the file that name leads to, itself where it is no symbolic link. A link that leads to no
// file is an error.
func Target(name string) (string, error) {
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return name, nil
	}
	target, err := filepath.EvalSymlinks(name)
	if err != nil {
		return "", fmt.Errorf("atomicfile: %w", err)
	}
	return target, nil
}

// resemble gives temp owner, group, mode and access control list of the file called name, mode when there is none.
func resemble(temp *os.File, name string, mode fs.FileMode) error {
	old, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return temp.Chmod(mode)
	}
	if err != nil {
		return err
	}
	own, err := temp.Stat()
	if err != nil {
		return err
	}
	if err := keepOwner(temp, own, old); err != nil {
		return fmt.Errorf("its owner and group cannot be kept: %w", err)
	}
	if err := temp.Chmod(old.Mode().Perm()); err != nil {
		return err
	}
	if err := keepList(temp, name); err != nil {
		return fmt.Errorf("its access control list cannot be kept: %w", err)
	}
	return nil
}
