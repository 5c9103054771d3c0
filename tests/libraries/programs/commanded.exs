# Commanded with its event store in memory.
Code.require_file("support.exs", __DIR__)
Logger.configure(level: :none)

Application.put_env(:shop, Shop.App,
  event_store: [adapter: Commanded.EventStore.Adapters.InMemory, serializer: Commanded.Serialization.JsonSerializer],
  pubsub: :local,
  registry: :local
)

for {name, fields} <- [Open: [:id], Deposit: [:id, :amount], Break: [:id], Opened: [:id], Deposited: [:id, :amount]] do
  defmodule Module.concat(Shop, name) do
    @derive Jason.Encoder
    defstruct fields
  end
end

defmodule Shop.Account do
  defstruct [:id, balance: 0]
  def execute(%{id: nil}, %Shop.Open{id: id}), do: %Shop.Opened{id: id}
  def execute(_, %Shop.Open{}), do: {:error, :already_open}
  def execute(_, %Shop.Deposit{amount: n} = c) when n > 1000, do: [%Shop.Deposited{id: c.id, amount: 1000}, %Shop.Deposited{id: c.id, amount: n - 1000}]
  def execute(_, %Shop.Deposit{} = c), do: %Shop.Deposited{id: c.id, amount: c.amount}
  def execute(_, %Shop.Break{}), do: raise("broken")
  def apply(a, %Shop.Opened{id: id}), do: %{a | id: id}
  def apply(a, %Shop.Deposited{amount: n}), do: %{a | balance: a.balance + n}
end

defmodule Shop.Lifespan do
  @behaviour Commanded.Aggregates.AggregateLifespan
  def after_event(_), do: :infinity
  def after_command(_), do: :infinity
  def after_error(_), do: :stop
end

defmodule Shop.Router do
  use Commanded.Commands.Router
  identify Shop.Account, by: :id
  dispatch [Shop.Open, Shop.Deposit, Shop.Break], to: Shop.Account, lifespan: Shop.Lifespan
end

defmodule Shop.App do
  use Commanded.Application, otp_app: :shop
  router Shop.Router
end

defmodule Shop.Mailer do
  use Commanded.Event.Handler, application: Shop.App, name: "mailer"
  def handle(%Shop.Deposited{amount: 13}, _), do: raise("unlucky")
  def handle(%Shop.Deposited{amount: 14}, _), do: {:error, :refused}
  def handle(_, _), do: Process.sleep(5)
  def error(_, _, _), do: :skip
end

defmodule Shop.Reports do
  use Commanded.Event.Handler, application: Shop.App, name: "reports", batch_size: 10
  def handle_batch(_), do: :ok
end

defmodule Shop.Bonus do
  use Commanded.ProcessManagers.ProcessManager, application: Shop.App, name: "bonus"
  @derive Jason.Encoder
  defstruct []
  def interested?(%Shop.Opened{id: id}), do: {:start, id}
  def interested?(_), do: false
  def handle(_, %Shop.Opened{id: "b"}), do: raise("no bonus")
  def handle(_, %Shop.Opened{id: id}), do: %Shop.Deposit{id: id, amount: 5}
  def error(_, _, _), do: {:skip, :continue_pending}
end

start = fn ->
  {:ok, _} = Shop.App.start_link()
  for handler <- [Shop.Mailer, Shop.Reports, Shop.Bonus], do: {:ok, _} = handler.start_link()
  Process.sleep(200)
end

operations = fn
  _, "go" ->
    for id <- ["a", "b"], do: :ok = Shop.App.dispatch(%{__struct__: Shop.Open, id: id})
    {:error, :already_open} = Shop.App.dispatch(%{__struct__: Shop.Open, id: "a"})
    for n <- [1, 2, 3, 13, 14], do: :ok = Shop.App.dispatch(%{__struct__: Shop.Deposit, id: "a", amount: n})
    :ok = Shop.App.dispatch(%{__struct__: Shop.Deposit, id: "a", amount: 1500})
    {:error, _} = Shop.App.dispatch(%{__struct__: Shop.Break, id: "a"})
    {:error, :unregistered_command} = Shop.App.dispatch(%{__struct__: Shop.Account, id: "a"})

  _, "again" ->
    # The aggregate stopped after its error: it is rebuilt from its events.
    :ok = Shop.App.dispatch(%{__struct__: Shop.Deposit, id: "a", amount: 1})
end

Process.flag(:trap_exit, true)
Program.run([:jason, :commanded], start, operations)
