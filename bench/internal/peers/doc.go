// Package peers has the contenders of the evaluation that are Go modules of others.
package peers
