# Redix with a Redis server at the port REDIS.
Code.require_file("support.exs", __DIR__)
Logger.configure(level: :none)
port = String.to_integer(System.fetch_env!("REDIS"))

start = fn ->
  {:ok, _} = Redix.start_link(host: "127.0.0.1", port: port, name: :cache, sync_connect: true, backoff_initial: 100, backoff_max: 100)
end

operations = fn
  _, "commands" ->
    for n <- 1..7, do: "OK" = Redix.command!(:cache, ["SET", "key #{n}", "secret"])
    for n <- 1..3, do: "secret" = Redix.command!(:cache, ["GET", "key #{n}"])
    for _ <- 1..2, do: {:error, %Redix.Error{}} = Redix.command(:cache, ["INCR", "key 1"])
    [1, 2, "2"] = Redix.pipeline!(:cache, [["INCR", "n"], ["INCR", "n"], ["GET", "n"]])
    {:ok, ["OK"]} = Redix.transaction_pipeline(:cache, [["SET", "m", "1"]])
    :ok = Redix.noreply_command(:cache, ["SET", "quiet", "1"])
    {:error, %Redix.ConnectionError{reason: :timeout}} = Redix.command(:cache, ["BLPOP", "nothing", "1"], timeout: 50)

  _, "reconnect" ->
    # The server closes the connection, and Redix opens another.
    {:ok, "OK"} = Redix.command(:cache, ["QUIT"])
    Enum.reduce_while(1..100, nil, fn _, _ -> if Redix.command(:cache, ["PING"]) == {:ok, "PONG"}, do: {:halt, :ok}, else: {:cont, Process.sleep(50)} end)

  _, "refused" ->
    {:ok, other} = Redix.start_link(host: "127.0.0.1", port: Program.free_port(), name: :nowhere, exit_on_disconnection: false, backoff_initial: 60_000)
    Process.sleep(300)
    {:error, _} = Redix.command(other, ["PING"])
end

Program.run([:redix], start, operations)
