"""A client that has never seen the .proto files: it asks the server what there is (gRPC reflection) and uses that.

    client.py ADDRESS MODULE       with the node's token in HOT_TOKEN

Lists the modules, follows the events, rolls MODULE back, waits for the event of that, and ends. Not zero and the status
on standard error when the node refuses.
"""

import os
import sys
import traceback

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

DEADLINE = 30


class Node:
    """Every method of every service of the node, found by reflection."""

    def __init__(self, address, token):
        self.channel = grpc.insecure_channel(address)
        self.metadata = [("authorization", f"Bearer {token}")]
        database = ProtoReflectionDescriptorDatabase(authorized(self.channel, self.metadata))
        self.services = sorted(database.get_services())
        self.pool = descriptor_pool.DescriptorPool(database)

    def call(self, service, method, **fields):
        """Calls a method by name; an iterator of messages if it streams."""
        found = self.pool.FindServiceByName(service).methods_by_name[method]
        request = message_factory.GetMessageClass(found.input_type)(**fields)
        reply = message_factory.GetMessageClass(found.output_type)
        kind = self.channel.unary_stream if found.server_streaming else self.channel.unary_unary
        rpc = kind(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=reply.FromString,
        )
        return rpc(request, metadata=self.metadata, timeout=DEADLINE)


def authorized(channel, metadata):
    """A channel that sends the token with every call: the reflection client has no place for it."""

    class Token(grpc.StreamStreamClientInterceptor):
        def intercept_stream_stream(self, continuation, details, requests):
            return continuation(details._replace(metadata=metadata), requests)

    return grpc.intercept_channel(channel, Token())


def main(address, module):
    node = Node(address, os.environ["HOT_TOKEN"])
    print("services", " ".join(node.services))

    for found in node.call("hot.v1.ModuleService", "List").modules:
        print(f"module {found.name} stable {found.stable.version}")

    events = node.call("hot.v1.EventService", "Follow", module=module, tail=1)
    last = next(events).event
    print(f"event {last.sequence} {last.kind}: {last.text}")

    answer = node.call("hot.v1.RolloutService", "Rollback", module=module, message="from a client by reflection")
    print(f"rolled back to {answer.to.version}")
    new = next(events).event
    assert new.sequence > last.sequence, (new.sequence, last.sequence)
    print(f"new event {new.sequence} {new.kind}: {new.text}")
    events.cancel()


def run():
    """Runs it and gives what the process ends with."""
    try:
        main(*sys.argv[1:])
        return 0
    except grpc.RpcError as error:
        print(f"{error.code().name}: {error.details()}", file=sys.stderr)
    except Exception:
        traceback.print_exc()
    return 1


if __name__ == "__main__":
    code = run()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not by sys.exit: grpcio's threads may hold a lock that the end of the interpreter waits for, for ever.
    os._exit(code)
