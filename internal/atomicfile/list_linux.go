package atomicfile

import (
	"errors"
	"os"
	"syscall"
)

// attribute is where Linux keeps the access control list of a file (POSIX ACL).
const attribute = "system.posix_acl_access"

// maxList is the size of the largest value of an attribute, in bytes.
const maxList = 64 << 10

// keepList gives temp the access control list of the file called name, if it has one.
func keepList(temp *os.File, name string) error {
	list := make([]byte, maxList)
	n, err := syscall.Getxattr(name, attribute, list)
	if errors.Is(err, syscall.ENODATA) || errors.Is(err, syscall.ENOTSUP) {
		return nil
	}
	if err != nil {
		return err
	}
	return syscall.Setxattr(temp.Name(), attribute, list[:n], 0)
}
