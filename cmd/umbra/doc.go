// Command umbra reads and changes device shadows on an umbrad server.
//
// Data goes to stdout, everything else to stderr; exit codes say what went
// wrong. "umbra help" lists the commands, docs/cli.md describes them all.
package main
