# A gRPC server and its client in one node.
Code.require_file("support.exs", __DIR__)
Logger.configure(level: :none)
port = Program.free_port()

defmodule Shop.Request do
  use Protobuf, syntax: :proto3
  field :name, 1, type: :string
end

defmodule Shop.Reply do
  use Protobuf, syntax: :proto3
  field :message, 1, type: :string
  field :status, 2, type: :int32
end

defmodule Shop.Greeter.Service do
  use GRPC.Service, name: "shop.Greeter"
  rpc :Greet, Shop.Request, Shop.Reply
  rpc :List, Shop.Request, stream(Shop.Reply)
  rpc :Collect, stream(Shop.Request), Shop.Reply
end

defmodule Shop.Greeter.Server do
  use GRPC.Server, service: Shop.Greeter.Service

  def greet(%{name: "missing"}, _), do: raise(GRPC.RPCError, status: :not_found, message: "secret")
  def greet(%{name: "broken"}, _), do: raise("secret")
  def greet(%{name: "slow"}, _), do: Process.sleep(600) && reply("slow")
  def greet(%{name: name}, _), do: reply(name)

  def list(%{name: name}, stream) do
    for _ <- 1..3, do: GRPC.Server.send_reply(stream, reply(name))
  end

  def collect(requests, _), do: reply("#{Enum.count(requests)}")
  defp reply(text), do: struct(Shop.Reply, message: text, status: 7)
end

defmodule Shop.Greeter.Stub do
  use GRPC.Stub, service: Shop.Greeter.Service
end

start = fn ->
  {:ok, _} = GRPC.Server.Supervisor.start_link(servers: [Shop.Greeter.Server], port: port, start_server: true)
  if Code.ensure_loaded?(GRPC.Client.Supervisor), do: GRPC.Client.Supervisor.start_link([])
end

operations = fn _, "go" ->
  {:ok, channel} = GRPC.Stub.connect("127.0.0.1:#{port}")
  greet = fn name, options -> Shop.Greeter.Stub.greet(channel, struct(Shop.Request, name: name), options) end
  for _ <- 1..7, do: {:ok, %{message: "you"}} = greet.("you", [])
  for _ <- 1..2, do: {:error, %GRPC.RPCError{status: 5}} = greet.("missing", [])
  {:error, %GRPC.RPCError{status: 2}} = greet.("broken", [])
  {:error, %GRPC.RPCError{status: 4}} = greet.("slow", timeout: 200)
  {:ok, replies} = Shop.Greeter.Stub.list(channel, struct(Shop.Request, name: "you"))
  3 = Enum.count(replies)
  stream = Shop.Greeter.Stub.collect(channel)
  for n <- 1..4, do: GRPC.Stub.send_request(stream, struct(Shop.Request, name: "#{n}"), if(n == 4, do: [end_stream: true], else: []))
  {:ok, %{message: "4"}} = GRPC.Stub.recv(stream)
  Process.sleep(800)
  {:ok, _} = GRPC.Stub.disconnect(channel)
end

Program.run([:grpc, :grpc_server, :gun], start, operations)
