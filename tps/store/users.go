package store

import (
	"context"
	"fmt"
	"strings"

	"inkan/tps/auth"
	"inkan/tps/token"
)

const userColumns = "id, name, mail, upn, roles, hash, created, modified, revision"

// User implements auth.Users. Ids are compared exactly.
func (db *DB) User(ctx context.Context, id token.UserID) (auth.User, error) {
	return queryOne(ctx, db.read, scanUser, "SELECT "+userColumns+" FROM users WHERE id = ?", string(id))
}

// Users implements auth.Users.
func (db *DB) Users(ctx context.Context) ([]auth.User, error) {
	return queryAll(ctx, db.read, scanUser, "SELECT "+userColumns+" FROM users ORDER BY id")
}

// CreateUser implements auth.Users.
func (db *DB) CreateUser(ctx context.Context, u auth.User) (auth.User, error) {
	u.Created = normal(db.now())
	u.Modified = u.Created
	u.Revision = 1
	_, err := db.changeUsers(ctx, "INSERT INTO users ("+userColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
		string(u.ID), u.Name, u.Mail, u.UPN, rolesText(u.Roles), u.Hash, stamp(u.Created), stamp(u.Modified), u.Revision)
	if err != nil {
		return auth.User{}, fmt.Errorf("creating user %s: %w", u.ID, err)
	}
	return u, nil
}

// ReplaceUser implements auth.Users. Created never changes.
func (db *DB) ReplaceUser(ctx context.Context, u auth.User) (auth.User, error) {
	u.Modified = normal(db.now())
	err := replaced(db.changeUsers(ctx, `UPDATE users SET name = ?, mail = ?, upn = ?, roles = ?, hash = ?, modified = ?,
		revision = revision + 1 WHERE id = ? AND revision = ?`,
		u.Name, u.Mail, u.UPN, rolesText(u.Roles), u.Hash, stamp(u.Modified), string(u.ID), u.Revision))
	if err != nil {
		return auth.User{}, fmt.Errorf("replacing user %s: %w", u.ID, err)
	}
	u.Revision++
	return u, nil
}

// DeleteUser implements auth.Users.
func (db *DB) DeleteUser(ctx context.Context, id token.UserID) error {
	n, err := db.changeUsers(ctx, "DELETE FROM users WHERE id = ?", string(id))
	if err == nil && n == 0 {
		err = token.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("deleting user %s: %w", id, err)
	}
	return nil
}

// changeUsers is an exec that whoever watches the users is told of.
func (db *DB) changeUsers(ctx context.Context, query string, args ...any) (n int64, err error) {
	err = db.change(ctx, TopicUsers, func(q querier) error {
		n, err = exec(ctx, q, query, args...)
		return err
	})
	return n, err
}

func scanUser(r row) (auth.User, error) {
	var u auth.User
	var roles string
	err := r.Scan(&u.ID, &u.Name, &u.Mail, &u.UPN, &roles, &u.Hash, stampAt(&u.Created), stampAt(&u.Modified), &u.Revision)
	if err != nil {
		return auth.User{}, err
	}
	for _, name := range strings.FieldsFunc(roles, func(c rune) bool { return c == ',' }) {
		u.Roles = append(u.Roles, auth.Role(name))
	}
	return u, nil
}

func rolesText(roles []auth.Role) string {
	var names []string
	for _, r := range roles {
		names = append(names, string(r))
	}
	return strings.Join(names, ",")
}
