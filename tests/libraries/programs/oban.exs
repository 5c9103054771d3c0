# Ecto with Postgres, and Oban on it. DATABASE is the folder of Postgres' socket.
Code.require_file("support.exs", __DIR__)
Logger.configure(level: :none)
Application.put_env(:shop, Shop.Repo, socket_dir: System.fetch_env!("DATABASE"), database: "postgres", username: "postgres", pool_size: 3, queue_target: 50, queue_interval: 100)

defmodule Shop.Repo do
  use Ecto.Repo, otp_app: :shop, adapter: Ecto.Adapters.Postgres
end

defmodule Shop.Item do
  use Ecto.Schema

  schema "items" do
    field :name, :string
  end
end

defmodule Shop.Migration do
  use Ecto.Migration

  def change do
    create table(:items) do
      add :name, :string, null: false
    end

    Oban.Migration.up(version: 13)
  end
end

defmodule Shop.Worker do
  use Oban.Worker, queue: :mail, max_attempts: 2

  def backoff(_), do: 3600

  def perform(%{args: %{"do" => "ok"}}), do: :ok
  def perform(%{args: %{"do" => "sleep"}}), do: Process.sleep(50)
  def perform(%{args: %{"do" => "raise"}}), do: raise("broken")
  def perform(%{args: %{"do" => "error"}}), do: {:error, "refused"}
  def perform(%{args: %{"do" => "cancel"}}), do: {:cancel, "not wanted"}
  def perform(%{args: %{"do" => "snooze"}}), do: {:snooze, 3600}
  def perform(%{args: %{"do" => "exit"}}), do: exit(:gone)
end

start = fn ->
  {:ok, _} = Supervisor.start_link([Shop.Repo], strategy: :one_for_one)
  Ecto.Migrator.up(Shop.Repo, 1, Shop.Migration, log: false)

  {:ok, _} =
    Oban.start_link(
      repo: Shop.Repo,
      queues: [mail: 5],
      notifier: Oban.Notifiers.PG,
      peer: Oban.Peers.Isolated,
      stage_interval: 100,
      plugins: [{Oban.Plugins.Pruner, interval: 1000}, {Oban.Plugins.Lifeline, interval: 1000}]
    )
end

wait = fn condition ->
  Enum.reduce_while(1..600, nil, fn _, _ -> if condition.(), do: {:halt, :ok}, else: {:cont, Process.sleep(100)} end)
end

jobs = fn state ->
  import Ecto.Query
  Shop.Repo.aggregate(from(j in Oban.Job, where: j.state == ^state), :count)
end

operations = fn
  _, "queries" ->
    import Ecto.Query
    for n <- 1..3, do: Shop.Repo.insert!(struct(Shop.Item, name: "item #{n}"))
    for _ <- 1..4, do: 3 = length(Shop.Repo.all(Shop.Item))
    {3, _} = Shop.Repo.update_all(Shop.Item, set: [name: "same"])
    {:error, _} = Shop.Repo.transaction(fn -> Shop.Repo.rollback(:no) end)
    for _ <- 1..2, do: {:error, _} = Shop.Repo.query("select secret from nothing")
    {:error, _} = Shop.Repo.query("insert into items (name) values (null)")
    Shop.Repo.query!("select pg_sleep(0.06)")
    %{num_rows: 2} = Shop.Repo.query!("select * from items where id <= $1", [2])
    1 = Shop.Repo.one(from i in Shop.Item, where: i.id == 1, select: 1)
    # One row at a time.
    {:ok, 3} = Shop.Repo.transaction(fn -> Shop.Item |> Shop.Repo.stream() |> Enum.count() end)

    # All three connections are held; another caller gives up.
    held =
      for _ <- 1..3 do
        Task.async(fn -> Shop.Repo.checkout(fn -> Process.sleep(1500) end) end)
      end

    Process.sleep(200)
    {:error, %DBConnection.ConnectionError{}} = Shop.Repo.query("select 1")
    Task.await_many(held)

  _, "jobs" ->
    for what <- ["ok", "ok", "ok", "ok", "sleep", "raise", "raise", "error", "cancel", "snooze", "exit"] do
      {:ok, _} = Oban.insert(Shop.Worker.new(%{do: what}))
    end

    [_, _] = Oban.insert_all([Shop.Worker.new(%{do: "ok"}), Shop.Worker.new(%{do: "ok"})])
    {:ok, last} = Oban.insert(Shop.Worker.new(%{do: "raise"}, max_attempts: 1))
    wait.(fn -> jobs.("completed") == 7 and jobs.("retryable") == 4 and jobs.("discarded") == 1 and jobs.("cancelled") == 1 and jobs.("scheduled") == 1 end)
    :ok = Oban.cancel_job(%{last | state: "discarded"})
    :ok = Oban.pause_queue(queue: :mail)

  _, "stop" ->
    Oban |> Oban.Registry.whereis() |> Supervisor.stop()
end

Program.run([:postgrex, :ecto_sql, :oban], start, operations)
