# Finch, with Bandit as its server in the same node.
Code.require_file("support.exs", __DIR__)
Logger.configure(level: :none)
port = Program.free_port()

defmodule Server do
  use Plug.Router
  plug :match
  plug :dispatch
  get "/ok", do: send_resp(conn, 200, "ok")
  get "/broken", do: send_resp(conn, 500, "broken")

  get "/slow" do
    Process.sleep(String.to_integer(conn.query_string))
    send_resp(conn, 200, "slow")
  end

  post "/items", do: send_resp(conn, 201, "made")
  match _, do: send_resp(conn, 404, "nothing")
end

start = fn ->
  {:ok, _} = Bandit.start_link(plug: Server, ip: {127, 0, 0, 1}, port: port)
  {:ok, _} = Finch.start_link(name: Shop.Finch, pools: %{:default => [size: 1, count: 1, conn_max_idle_time: 200], "http://localhost:#{port}" => [protocols: [:http2], count: 1]})
end

operations = fn _, "go" ->
  url = "http://127.0.0.1:#{port}"
  request = fn method, path -> Finch.build(method, url <> path) |> Finch.request(Shop.Finch, receive_timeout: 500) end
  for _ <- 1..7, do: {:ok, %{status: 200}} = request.(:get, "/ok")
  for _ <- 1..2, do: {:ok, %{status: 500}} = request.(:get, "/broken")
  for _ <- 1..3, do: {:ok, %{status: 201}} = request.(:post, "/items")
  {:ok, %{status: 404}} = request.("BREW", "/pot")
  {:ok, %{status: 200}} = request.(:get, "/slow?30")
  # The response takes longer than the client waits.
  {:error, _} = request.(:get, "/slow?1500")

  # The result of a stream is the caller's own.
  {:ok, 2} = Finch.build(:get, url <> "/ok") |> Finch.stream(Shop.Finch, 0, fn _, n -> n + 1 end) |> then(fn {:ok, n} -> {:ok, n - 1} end)

  # The only connection is in use.
  busy = Task.async(fn -> Finch.build(:get, url <> "/slow?400") |> Finch.request(Shop.Finch) end)
  Process.sleep(100)
  catch_exit = try do Finch.build(:get, url <> "/ok") |> Finch.request(Shop.Finch, pool_timeout: 50) catch kind, _ -> kind else other -> other end
  IO.inspect(catch_exit)
  {:ok, _} = Task.await(busy)

  # A connection that was idle for too long is closed before the next request.
  Process.sleep(400)
  {:ok, %{status: 200}} = request.(:get, "/ok")

  # Nobody listens.
  {:error, _} = Finch.build(:get, "http://127.0.0.1:#{Program.free_port()}/ok") |> Finch.request(Shop.Finch)

  # HTTP/2.
  for _ <- 1..4, do: {:ok, %{status: 200}} = Finch.build(:get, "http://localhost:#{port}/ok") |> Finch.request(Shop.Finch)
end

Program.run([:finch, :bandit], start, operations)
