package atomicfile_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/umbra-iot/umbra/internal/atomicfile"
)

// nobody is a user and a group that are not those of the test.
const nobody = 65534

// owned makes a file of nobody in a directory that everybody may write to.
func owned(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root may give files away")
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	err := errors.Join(os.Chmod(dir, 0o777), os.Chmod(filepath.Dir(dir), 0o711)) //nolint:gosec // they are directories of a test
	if err == nil {
		err = os.WriteFile(name, []byte("old"), 0o640)
	}
	if err == nil {
		err = os.Chown(name, nobody, nobody)
	}
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func ownerOf(t *testing.T, name string) (user, group uint32) {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	return stat.Uid, stat.Gid
}

func TestOwnerIsKept(t *testing.T) {
	t.Parallel()
	name := owned(t)
	if err := atomicfile.Write(name, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	holds(t, name, "new", 0o640)
	if user, group := ownerOf(t, name); user != nobody || group != nobody {
		t.Errorf("the file belongs to %d:%d", user, group)
	}
}

// Who may not give the file to its owner changes nothing.
func TestOwnerThatCannotBeKept(t *testing.T) {
	t.Parallel()
	name := owned(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with the goroutine
		if err := syscall.Setfsuid(nobody + 1); err != nil {
			done <- errors.Join(errors.ErrUnsupported, err)
			return
		}
		done <- atomicfile.Write(name, []byte("new"), 0o600)
	}()
	if err := <-done; !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "owner") {
		t.Errorf("Write by somebody else = %v", err)
	}
	holds(t, name, "old", 0o640)
	if user, group := ownerOf(t, name); user != nobody || group != nobody {
		t.Errorf("the file belongs to %d:%d", user, group)
	}
}

// Where access control lists are kept: that of a file, and that which new files of a directory get.
const (
	listOfFile   = "system.posix_acl_access"
	listForFiles = "system.posix_acl_default"
)

// readableByNobody is an access control list by which the user nobody may read, the owner may read and write, and nobody else may do anything.
func readableByNobody() []byte {
	list := binary.LittleEndian.AppendUint32(nil, 2) // version
	for _, entry := range []struct {
		tag, rights uint16
		id          uint32
	}{{0x01, 6, ^uint32(0)}, {0x02, 4, nobody}, {0x04, 0, ^uint32(0)}, {0x10, 4, ^uint32(0)}, {0x20, 0, ^uint32(0)}} {
		list = binary.LittleEndian.AppendUint16(list, entry.tag)
		list = binary.LittleEndian.AppendUint16(list, entry.rights)
		list = binary.LittleEndian.AppendUint32(list, entry.id)
	}
	return list
}

// give sets an access control list, or skips the test where there are none: not every file system has them.
func give(t *testing.T, name, attribute string, list []byte) {
	t.Helper()
	if err := syscall.Setxattr(name, attribute, list, 0); err != nil {
		t.Skip("the file system has no access control lists: ", err)
	}
}

// A user who may read the file by its access control list still may.
func TestAccessControlListIsKept(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	list := readableByNobody()
	give(t, name, listOfFile, list)
	if err := atomicfile.Write(name, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 2*len(list))
	n, err := syscall.Getxattr(name, listOfFile, got)
	if err != nil || !bytes.Equal(got[:n], list) {
		t.Errorf("the list is %x, %v; want %x", got[:max(n, 0)], err, list)
	}
}

// A user who may read new files of the directory may not read one that is older, nor is its group kept out.
func TestAccessControlListOfTheDirectory(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "file")
	if err := errors.Join(os.WriteFile(name, []byte("old"), 0o600), os.Chmod(name, 0o640)); err != nil {
		t.Fatal(err)
	}
	give(t, filepath.Dir(name), listForFiles, readableByNobody())
	if err := atomicfile.Write(name, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	holds(t, name, "new", 0o640)
	if n, err := syscall.Getxattr(name, listOfFile, nil); !errors.Is(err, syscall.ENODATA) {
		t.Errorf("the file has a list of %d bytes, %v", n, err)
	}
}
