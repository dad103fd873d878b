package securechannel_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// TestComparisonsAreConstantTime forbids bytes.Equal, reflect.DeepEqual and
// comparison of byte strings as strings in the product code of secure channels:
// what is compared there are MACs, cryptograms and check values.
func TestComparisonsAreConstantTime(t *testing.T) {
	t.Parallel()
	files := 0
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files++
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok {
					switch x.Name + "." + n.Sel.Name {
					case "bytes.Equal", "bytes.Compare", "reflect.DeepEqual", "slices.Equal":
						t.Errorf("%v: %s.%s", set.Position(n.Pos()), x.Name, n.Sel.Name)
					}
				}
			case *ast.BinaryExpr:
				if (n.Op == token.EQL || n.Op == token.NEQ) && (isMAC(n.X) || isMAC(n.Y)) {
					t.Errorf("%v: compared with %v", set.Position(n.Pos()), n.Op)
				}
			}
			return true
		})
		return nil
	})
	if err != nil || files < 10 {
		t.Errorf("%d files read, %v", files, err)
	}
}

// isMAC recognises an authentication value by its name, and the conversion of
// one to a string. A length or a test for nil is neither.
func isMAC(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		name := strings.ToLower(e.Name)
		return strings.HasSuffix(name, "mac") || strings.HasSuffix(name, "cryptogram") || strings.HasSuffix(name, "kcv")
	case *ast.CallExpr:
		f, ok := e.Fun.(*ast.Ident)
		return ok && f.Name == "string"
	case *ast.SliceExpr:
		return isMAC(e.X)
	case *ast.SelectorExpr:
		return isMAC(e.Sel)
	}
	return false
}
