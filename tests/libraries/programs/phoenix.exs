# Phoenix and LiveView on Bandit, or on Cowboy with SERVER=cowboy.
Code.require_file("support.exs", __DIR__)
port = Program.free_port()
server = System.get_env("SERVER", "bandit")
adapter = if server == "cowboy", do: Phoenix.Endpoint.Cowboy2Adapter, else: Bandit.PhoenixAdapter
Application.put_env(:phoenix, :json_library, Jason)
Logger.configure(level: :none)

Application.put_env(:shop, Shop.Endpoint,
  adapter: adapter,
  http: [ip: {127, 0, 0, 1}, port: port],
  server: true,
  check_origin: false,
  secret_key_base: String.duplicate("s", 64),
  live_view: [signing_salt: "saltsaltsalt"],
  pubsub_server: Shop.PubSub,
  render_errors: [formats: [html: Shop.ErrorHTML], layout: false]
)

defmodule Shop.ErrorHTML do
  def render(template, _), do: Phoenix.Controller.status_message_from_template(template)
end

defmodule Shop.PageHTML do
  def render("index.html", _), do: {:safe, "index"}
  def render("broken.html", _), do: raise("template")
end

defmodule Shop.PageController do
  use Phoenix.Controller, formats: [html: "HTML"]
  plug :put_view, html: Shop.PageHTML

  def index(conn, _), do: render(conn, :index)
  def broken(conn, _), do: render(conn, :broken)
  def boom(_, _), do: raise("boom")
  def create(conn, %{"id" => _}), do: send_resp(conn, 201, "made")

  def slow(conn, _) do
    Process.sleep(30)
    send_resp(conn, 200, "slow")
  end
end

defmodule Shop.Item do
  use Phoenix.LiveComponent

  def update(%{fail: true}, _), do: raise("update")
  def update(assigns, socket), do: {:ok, assign(socket, assigns)}
  def handle_event("pick", _, socket), do: {:noreply, assign(socket, picked: true)}
  def handle_event("drop", _, _), do: raise("drop")

  def render(assigns) do
    ~H"""
    <button id={@id} phx-click="pick" phx-target={@myself}>pick {assigns[:picked]}</button>
    """
  end
end

defmodule Shop.CounterLive do
  use Phoenix.LiveView

  def mount(_, _, socket), do: {:ok, assign(socket, count: 0, item: true)}
  def handle_params(_, _, socket), do: {:noreply, socket}
  def handle_event("inc", _, socket), do: {:noreply, update(socket, :count, &(&1 + 1))}
  def handle_event("hide", _, socket), do: {:noreply, assign(socket, item: false)}
  def handle_event("boom", _, _), do: raise("boom")

  def render(assigns) do
    ~H"""
    <div id="counter">{@count}<.live_component :if={@item} module={Shop.Item} id="item" /></div>
    """
  end
end

defmodule Shop.Room do
  use Phoenix.Channel

  def join("room:lobby", _, socket), do: {:ok, socket}
  def join("room:" <> _, _, _), do: {:error, %{reason: "unauthorized"}}
  def handle_in("say", payload, socket), do: {:reply, {:ok, payload}, socket}
end

defmodule Shop.Socket do
  use Phoenix.Socket
  channel "room:*", Shop.Room

  def connect(%{"token" => "bad"}, _, _), do: :error
  def connect(_, socket, _), do: {:ok, socket}
  def id(_), do: nil
end

defmodule Shop.Router do
  use Phoenix.Router
  import Phoenix.LiveView.Router

  pipeline :browser do
    plug :accepts, ["html"]
  end

  scope "/" do
    pipe_through :browser
    get "/ok", Shop.PageController, :index
    get "/broken", Shop.PageController, :broken
    get "/boom", Shop.PageController, :boom
    get "/slow", Shop.PageController, :slow
    post "/items/:id", Shop.PageController, :create
    live "/counter", Shop.CounterLive
  end
end

defmodule Shop.Endpoint do
  use Phoenix.Endpoint, otp_app: :shop
  socket "/live", Phoenix.LiveView.Socket, websocket: true
  socket "/socket", Shop.Socket, websocket: true
  plug Plug.Telemetry, event_prefix: [:phoenix, :endpoint]
  plug Plug.Session, store: :cookie, key: "_shop", signing_salt: "salt"
  plug Shop.Router
end

defmodule Client do
  def push(socket, message) do
    Program.send_text(socket, Jason.encode!(message))
    reply(socket, Enum.at(message, 1))
  end

  # Messages of the server in between are skipped.
  def reply(socket, ref) do
    case Jason.decode!(Program.receive_text(socket)) do
      [_, ^ref, _, "phx_reply", payload] -> payload
      [_, _, _, "phx_error", _] -> :crashed
      _ -> reply(socket, ref)
    end
  end
end

start = fn ->
  {:ok, _} = Supervisor.start_link([{Phoenix.PubSub, name: Shop.PubSub}, Shop.Endpoint], strategy: :one_for_one)
end

operations = fn _, "go" ->
  for _ <- 1..7, do: {200, _, "index"} = Program.http(port, "GET", "/ok")
  for _ <- 1..2, do: {500, _, _} = Program.http(port, "GET", "/boom")
  {500, _, _} = Program.http(port, "GET", "/broken")
  for n <- 1..3, do: {201, _, _} = Program.http(port, "POST", "/items/#{n}", "{}")
  {200, _, _} = Program.http(port, "GET", "/slow")
  {404, _, _} = Program.http(port, "GET", "/missing")
  {404, _, _} = Program.http(port, "BREW", "/ok")

  # Channels: three joins, one of them refused, and five messages.
  socket = Program.websocket(port, "/socket/websocket?vsn=2.0.0")
  %{"status" => "ok"} = Client.push(socket, ["1", "1", "room:lobby", "phx_join", %{}])
  %{"status" => "error"} = Client.push(socket, ["2", "2", "room:vault", "phx_join", %{}])
  for n <- 3..7, do: %{"status" => "ok"} = Client.push(socket, ["1", "#{n}", "room:lobby", "say", %{"n" => n}])
  Program.close(socket)
  {403, _, _} = Program.http(port, "GET", "/socket/websocket?vsn=2.0.0&token=bad", "", [{"connection", "upgrade"}, {"upgrade", "websocket"}, {"sec-websocket-version", "13"}, {"sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="}])

  # LiveView: two pages, one of which connects; four events, one event of a component, one that raises in each.
  {200, _, _} = Program.http(port, "GET", "/counter")
  {200, headers, page} = Program.http(port, "GET", "/counter")
  [[_, id]] = Regex.scan(~r/id="(phx-[^"]+)"/, page)
  [[_, session]] = Regex.scan(~r/data-phx-session="([^"]+)"/, page)
  [[_, static]] = Regex.scan(~r/data-phx-static="([^"]+)"/, page)
  _ = headers
  topic = "lv:" <> id

  join = fn ->
    live = Program.websocket(port, "/live/websocket?vsn=2.0.0")
    params = %{"_mounts" => 0}
    %{"status" => "ok"} = Client.push(live, ["4", "4", topic, "phx_join", %{"url" => "http://127.0.0.1/counter", "params" => params, "session" => session, "static" => static}])
    live
  end

  event = fn live, ref, name, more -> Client.push(live, ["4", ref, topic, "event", Map.merge(%{"type" => "click", "event" => name, "value" => %{}}, more)]) end
  live = join.()
  for n <- 5..8, do: %{"status" => "ok"} = event.(live, "#{n}", "inc", %{})
  %{"status" => "ok"} = event.(live, "9", "pick", %{"cid" => 1})
  :crashed = event.(live, "10", "drop", %{"cid" => 1})
  Program.close(live)
  live = join.()
  %{"status" => "ok"} = event.(live, "5", "hide", %{})
  %{"status" => "ok"} = Client.push(live, ["4", "6", topic, "cids_will_destroy", %{"cids" => [1]}])
  %{"status" => "ok"} = Client.push(live, ["4", "7", topic, "cids_destroyed", %{"cids" => [1]}])
  :crashed = event.(live, "8", "boom", %{})
  Program.close(live)
end

Program.run([:phoenix, :phoenix_live_view, :jason, if(server == "cowboy", do: :plug_cowboy, else: :bandit)], start, operations)
