#!/bin/sh
# Writes the Python modules of every .proto here beside it.  Run from the repository's root.
set -eu
exec "${PYTHON:-.venv/bin/python}" -m grpc_tools.protoc -I. --plugin=protoc-gen-mypy="$(dirname "${PYTHON:-.venv/bin/python}")/protoc-gen-mypy" --python_out=. --mypy_out=. $(find protos -name '*.proto' | sort)
