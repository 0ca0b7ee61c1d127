package faultfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/umbra-iot/umbra/internal/faultfs"
)

// disk is a file system on a directory of the test.
type disk struct {
	t       *testing.T
	files   vfs.FS
	dir     string
	control string
}

func newDisk(t *testing.T) disk {
	t.Helper()
	dir := t.TempDir()
	control := filepath.Join(dir, "control")
	return disk{t, faultfs.New(control, func() { panic("the process ends") }), dir, control}
}

func (d disk) tell(fault string) {
	d.t.Helper()
	if err := faultfs.Tell(d.control, fault); err != nil {
		d.t.Fatal(err)
	}
}

func (d disk) create(name string) vfs.File {
	d.t.Helper()
	f, err := d.files.Create(filepath.Join(d.dir, name), vfs.WriteCategoryUnspecified)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = f.Close() })
	return f
}

func write(f vfs.File, text string) error {
	_, err := f.Write([]byte(text)) // Write may change what it gets
	return err
}

func TestErrors(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	log, table := d.create("1.log"), d.create("2.sst")
	for _, c := range []struct {
		fault             string
		log, table, syncs error
	}{
		{faultfs.None, nil, nil, nil},
		{faultfs.Full, syscall.ENOSPC, syscall.ENOSPC, nil},
		{faultfs.TablesFull, nil, syscall.ENOSPC, nil},
		{faultfs.SyncError, nil, nil, syscall.EIO},
		{faultfs.Slow + " 1ms", nil, nil, nil},
	} {
		d.tell(c.fault)
		for what, got := range map[string][2]error{
			"write to a log": {write(log, "x"), c.log}, "write to a table": {write(table, "x"), c.table}, "sync": {log.Sync(), c.syncs},
		} {
			if !errors.Is(got[0], got[1]) {
				t.Errorf("%q: %s = %v, want %v", c.fault, what, got[0], got[1])
			}
		}
	}
}

func TestHang(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	log := d.create("1.log")
	d.tell(faultfs.Hang)
	done := make(chan error, 1)
	go func() { done <- log.SyncData() }()
	select {
	case err := <-done:
		t.Errorf("SyncData = %v while the disk hangs", err)
	default:
	}
	d.tell(faultfs.None)
	if err := <-done; err != nil {
		t.Errorf("SyncData = %v", err)
	}
}

// TestPowerCut checks that what was synced stays, and that nothing else than what was written is there.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	for range 50 {
		d := newDisk(t)
		log := d.create("1.log")
		if err := errors.Join(write(log, "synced "), log.SyncData(), write(log, "written ")); err != nil {
			t.Fatal(err)
		}
		d.tell(faultfs.PowerCut)
		func() {
			defer func() { _ = recover() }()
			_ = write(log, "torn")
			t.Error("the process goes on")
		}()
		got, err := os.ReadFile(filepath.Join(d.dir, "1.log"))
		if err != nil || !strings.HasPrefix(string(got), "synced ") || !strings.HasPrefix("synced written torn", string(got)) {
			t.Errorf("log after a power cut = %q, %v", got, err)
		}
	}
}
