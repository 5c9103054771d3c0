# Plug.Router on Bandit, or on Cowboy with SERVER=cowboy, without Phoenix.
Code.require_file("support.exs", __DIR__)
port = Program.free_port()
server = System.get_env("SERVER", "bandit")
Logger.configure(level: :none)

defmodule Shop.NotFound do
  defexception message: "gone", plug_status: 410
end

defmodule Shop.Router do
  use Plug.Router

  plug Plug.Telemetry, event_prefix: [:shop, :plug]
  plug :match
  plug :dispatch

  get "/ok", do: send_resp(conn, 200, String.duplicate("o", 1000))
  get "/boom", do: raise("#{conn.request_path}")
  get "/gone", do: raise(Shop.NotFound, "#{conn.request_path}")
  get "/throw", do: throw(conn.request_path)

  get "/slow" do
    Process.sleep(30)
    send_resp(conn, 200, "slow")
  end

  get "/stream" do
    conn = send_chunked(conn, 200)
    Enum.reduce(1..3, conn, fn n, conn -> elem(chunk(conn, "part #{n}"), 1) end)
  end

  post "/items/:id" do
    {:ok, body, conn} = read_body(conn)
    send_resp(conn, 201, "#{byte_size(body)}")
  end

  match _, do: send_resp(conn, 404, "nothing")
end

start = fn ->
  if server == "cowboy" do
    {:ok, _} = Plug.Cowboy.http(Shop.Router, [], ip: {127, 0, 0, 1}, port: port, stream_handlers: [:cowboy_telemetry_h, :cowboy_stream_h])
  else
    {:ok, _} = Bandit.start_link(plug: Shop.Router, ip: {127, 0, 0, 1}, port: port)
  end
end

operations = fn _, "go" ->
  for _ <- 1..7, do: {200, _, _} = Program.http(port, "GET", "/ok")
  for _ <- 1..2, do: {500, _, _} = Program.http(port, "GET", "/boom")
  # Cowboy answers 500 to any crash, Bandit with the status of the exception.
  gone = if server == "cowboy", do: 500, else: 410
  {^gone, _, _} = Program.http(port, "GET", "/gone")
  {500, _, _} = Program.http(port, "GET", "/throw")
  {200, _, _} = Program.http(port, "GET", "/slow")
  {200, _, _} = Program.http(port, "GET", "/stream")
  for n <- 1..3, do: {201, _, _} = Program.http(port, "POST", "/items/#{n}", String.duplicate("b", 2000))
  {404, _, _} = Program.http(port, "GET", "/missing")
  {404, _, _} = Program.http(port, "BREW", "/ok")
  # Not HTTP.
  {400, _, _} = Program.http(port, "", "")
end

Program.run([:telemetry, if(server == "cowboy", do: :plug_cowboy, else: :bandit)], start, operations)
