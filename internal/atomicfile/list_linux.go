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

// keepList gives temp the access control list of the file called name. If that has none, temp has none either, whatever
// new files of the directory get.
func keepList(temp *os.File, name string) error {
	list := make([]byte, maxList)
	n, err := syscall.Getxattr(name, attribute, list)
	if err == nil {
		return syscall.Setxattr(temp.Name(), attribute, list[:n], 0)
	}
	if errors.Is(err, syscall.ENODATA) {
		err = syscall.Removexattr(temp.Name(), attribute)
	}
	if errors.Is(err, syscall.ENODATA) || errors.Is(err, syscall.ENOTSUP) {
		return nil
	}
	return err
}
