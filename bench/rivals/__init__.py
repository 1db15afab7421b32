"""The same work done otherwise, each as its documentation recommends."""
