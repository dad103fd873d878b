// Command inkan issues smart cards and looks after them. Run inkan -h.
package main

import (
	"os"

	"inkan/cli"
)

func main() { os.Exit(cli.Main(os.Args, os.Stdin, os.Stdout, os.Stderr)) }
