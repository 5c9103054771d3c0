# The frame of a program: starts libraries and the relay, does its operations when the test writes a line, and runs until its input ends.
defmodule Program do
  def run(applications, start, operations) do
    for application <- applications ++ [:dichroic], do: {:ok, _} = Application.ensure_all_started(application)
    context = start.()
    IO.puts("ready")
    serve(context, operations)
  end

  defp serve(context, operations) do
    case IO.gets("") do
      line when is_binary(line) ->
        operations.(context, String.trim(line))
        IO.puts("done")
        serve(context, operations)

      _ ->
        System.halt(0)
    end
  end

  def free_port do
    {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(socket)
    :gen_tcp.close(socket)
    port
  end

  # Returns status, headers and body of a request on a connection of its own.
  def http(port, method, path, body \\ "", headers \\ []) do
    {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false])
    extra = for {name, value} <- headers, do: "#{name}: #{value}\r\n"
    length = if body == "", do: "", else: "content-type: application/json\r\ncontent-length: #{byte_size(body)}\r\n"
    :ok = :gen_tcp.send(socket, ["#{method} #{path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n", length, extra, "\r\n", body])
    answer = read_all(socket, "")
    :gen_tcp.close(socket)

    case String.split(answer, "\r\n\r\n", parts: 2) do
      [head, rest] ->
        [<<"HTTP/1.", _, " ", status::binary>> | lines] = String.split(head, "\r\n")
        {String.to_integer(String.slice(status, 0, 3)), lines, rest}

      _ ->
        :closed
    end
  end

  defp read_all(socket, read) do
    case :gen_tcp.recv(socket, 0, 10_000) do
      {:ok, more} -> read_all(socket, read <> more)
      {:error, _} -> read
    end
  end

  # A WebSocket client of text frames below 64 KiB.
  def websocket(port, path) do
    {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false])
    key = Base.encode64(:crypto.strong_rand_bytes(16))

    :ok =
      :gen_tcp.send(socket, """
      GET #{path} HTTP/1.1\r
      host: 127.0.0.1\r
      connection: upgrade\r
      upgrade: websocket\r
      sec-websocket-version: 13\r
      sec-websocket-key: #{key}\r
      \r
      """)

    head = read_head(socket, "")
    "HTTP/1.1 101" <> _ = head
    socket
  end

  defp read_head(socket, read) do
    if String.ends_with?(read, "\r\n\r\n") do
      read
    else
      {:ok, byte} = :gen_tcp.recv(socket, 1, 10_000)
      read_head(socket, read <> byte)
    end
  end

  def send_text(socket, text) do
    size = byte_size(text)
    length = if size < 126, do: <<1::1, size::7>>, else: <<1::1, 126::7, size::16>>
    # A mask of zeroes leaves the payload as it is.
    :ok = :gen_tcp.send(socket, [<<0x81>>, length, <<0::32>>, text])
  end

  def receive_text(socket) do
    {:ok, <<_::4, opcode::4, 0::1, short::7>>} = :gen_tcp.recv(socket, 2, 10_000)

    size =
      case short do
        126 -> :gen_tcp.recv(socket, 2, 10_000) |> then(fn {:ok, <<size::16>>} -> size end)
        127 -> :gen_tcp.recv(socket, 8, 10_000) |> then(fn {:ok, <<size::64>>} -> size end)
        size -> size
      end

    {:ok, payload} = if size == 0, do: {:ok, ""}, else: :gen_tcp.recv(socket, size, 10_000)
    if opcode == 1, do: payload, else: {opcode, payload}
  end

  def close(socket) do
    :ok = :gen_tcp.send(socket, <<0x88, 0x82, 0::32, 1000::16>>)
    {8, _} = receive_text(socket)
    :gen_tcp.close(socket)
  end
end
