"""The Open Inference Protocol's gRPC service (extra ``grpc``); imported only where it is asked for."""

from __future__ import annotations

from mainspring.serving.grpc.server import GrpcOptions, GrpcServer, start_grpc

__all__ = ["GrpcOptions", "GrpcServer", "start_grpc"]
