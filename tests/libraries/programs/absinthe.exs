# Absinthe, called as its plug does.
Code.require_file("support.exs", __DIR__)
Logger.configure(level: :none)

defmodule Shop.Batch do
  def items(_, ids), do: Map.new(ids, &{&1, %{id: &1, name: "item #{&1}"}})
  def slow(_, _), do: Process.sleep(1000)
  def broken(_, _), do: raise("batch")
end

defmodule Shop.Schema do
  use Absinthe.Schema
  import Absinthe.Resolution.Helpers, only: [async: 1, batch: 3, batch: 4]

  object :item do
    field :id, :integer
    field :name, :string
  end

  query do
    field :ping, :string, resolve: fn _, _ -> {:ok, "pong"} end

    field :item, :item do
      arg :id, non_null(:integer)
      resolve fn %{id: id}, _ -> batch({Shop.Batch, :items}, id, fn found -> {:ok, found[id]} end) end
    end

    field :late, :string, resolve: fn _, _ -> batch({Shop.Batch, :slow}, 1, fn _ -> {:ok, ""} end, timeout: 50) end
    field :broken, :string, resolve: fn _, _ -> batch({Shop.Batch, :broken}, 1, fn _ -> {:ok, ""} end) end
    field :task, :string, resolve: fn _, _ -> async(fn -> {:ok, "done"} end) end
    field :failed_task, :string, resolve: fn _, _ -> async(fn -> raise("task") end) end
    field :refused, :string, resolve: fn _, _ -> {:error, "refused"} end
    field :slow, :string, resolve: fn _, _ -> Process.sleep(30); {:ok, "slow"} end
  end

  mutation do
    field :rename, :item do
      arg :name, non_null(:string)
      resolve fn %{name: name}, _ -> {:ok, %{id: 1, name: name}} end
    end
  end

  subscription do
    field :renamed, :item do
      config fn _, _ -> {:ok, topic: "*"} end
      trigger :rename, topic: fn _ -> "*" end
    end
  end
end

defmodule Shop.PubSub do
  @behaviour Absinthe.Subscription.Pubsub
  def start_link, do: Registry.start_link(keys: :duplicate, name: __MODULE__)
  def node_name, do: node()
  def subscribe(topic), do: Registry.register(__MODULE__, topic, []) && :ok
  def publish_mutation(_, _, _), do: :ok
  def publish_subscription(topic, data), do: Registry.dispatch(__MODULE__, topic, &Enum.each(&1, fn {pid, _} -> send(pid, {:data, data}) end))
end

start = fn ->
  {:ok, _} = Shop.PubSub.start_link()
  {:ok, _} = Absinthe.Subscription.start_link(Shop.PubSub)
end

operations = fn _, "go" ->
  run = fn text, options -> Absinthe.run(text, Shop.Schema, [context: %{pubsub: Shop.PubSub}] ++ options) end
  for _ <- 1..7, do: {:ok, %{data: %{"ping" => "pong"}}} = run.("query Mine { ping }", [])
  for _ <- 1..2, do: {:ok, %{data: %{"item" => _, "b" => _}}} = run.("{ item(id: 1) { name } b: item(id: 2) { id } }", [])
  for _ <- 1..2, do: {:ok, %{errors: [_], data: _}} = run.("{ refused }", [])
  for _ <- 1..3, do: {:ok, %{errors: [_]}} = run.("{ nothing }", [])
  {:ok, %{errors: [_]}} = run.("{ not GraphQL", [])
  {:ok, %{data: _}} = run.("{ slow }", [])
  {:ok, %{data: _}} = run.("{ task }", [])
  for text <- ["{ failedTask }", "{ late }", "{ broken }"] do
    try do
      run.(text, [])
    catch
      _, _ -> :ok
    end
  end

  {:ok, %{data: _}} = run.("query { item(id: 1) { name } ping }", analyze_complexity: true, max_complexity: 50)
  {:ok, %{"subscribed" => topic}} = run.("subscription { renamed { name } }", [])
  :ok = Shop.PubSub.subscribe(topic)
  {:ok, %{data: _}} = run.(~s|mutation { rename(name: "secret") { name } }|, [])
  receive do {:data, _} -> :ok after 5_000 -> raise("nothing published") end
end

Process.flag(:trap_exit, true)
Program.run([:absinthe], start, operations)
