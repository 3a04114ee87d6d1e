//go:build tools

// Package tools names the Kubernetes commands of the test cluster, so that go.mod and go.sum pin
// them and everything they are made of. Nothing here is compiled: `cargo xtask` builds each command
// by its import path.
package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
	_ "k8s.io/kubernetes/cmd/kube-scheduler"
	_ "k8s.io/kubernetes/cmd/kubectl"
	_ "k8s.io/kubernetes/cmd/kubelet"
)
