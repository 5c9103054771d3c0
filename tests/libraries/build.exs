# Compiles one library without a package manager: elixir build.exs NAME SOURCE TARGET. Its dependencies are on ERL_LIBS, whatever versions
# its mix.exs requires.
Mix.start()
Mix.env(:prod)
[name, source, target] = System.argv()
File.cd!(source)
ebin = Path.join(target, "ebin")
File.mkdir_p!(ebin)

for folder <- ["priv", "include"], File.dir?(Path.join(source, folder)) do
  File.cp_r!(Path.join(source, folder), Path.join(target, folder))
end

app = String.to_atom(name)

mix =
  if File.regular?(Path.join(source, "mix.exs")) do
    [{module, _} | _] = Code.compile_file("mix.exs")
    module
  end

erl = Path.wildcard(Path.join(source, "src/**/*.{xrl,yrl}"))

for file <- erl do
  build = if Path.extname(file) == ".xrl", do: :leex, else: :yecc
  {:ok, _} = build.file(String.to_charlist(file)) |> then(&{elem(&1, 0), nil})
end

options = [:debug_info, outdir: String.to_charlist(ebin), i: String.to_charlist(Path.join(source, "include")), i: String.to_charlist(Path.join(source, "src"))]
Code.prepend_path(ebin)
files = Path.wildcard(Path.join(source, "src/**/*.erl"))

# Behaviours first: a module that implements one reads it.
{first, rest} = Enum.split_with(files, &(File.read!(&1) =~ "-callback"))

for file <- first ++ rest do
  case :compile.file(String.to_charlist(file), [:return_errors, :report_errors | options]) do
    {:ok, _} -> :ok
    error -> raise "#{file}: #{inspect(error)}"
  end
end

paths = if mix, do: List.wrap(mix.project()[:elixirc_paths] || "lib"), else: []
paths = for path <- paths, File.dir?(Path.join(source, path)), do: Path.join(source, path)
elixir = Enum.flat_map(paths, &Path.wildcard(Path.join(&1, "**/*.ex")))

built =
  if elixir != [] do
    {:ok, _, _} = Kernel.ParallelCompiler.compile_to_path(elixir, ebin, return_diagnostics: true)
    true
  end

modules = for beam <- Path.wildcard(Path.join(ebin, "*.beam")), do: beam |> Path.basename(".beam") |> String.to_atom()

app_src = Path.join(source, "src/#{name}.app.src")
shipped = Path.join(source, "ebin/#{name}.app")

properties =
  cond do
    mix && built ->
      given = if function_exported?(mix, :application, 0), do: mix.application(), else: []
      version = to_string(mix.project()[:version])

      dependencies =
        for dependency <- mix.project()[:deps] || [],
            dep = elem(dependency, 0),
            File.dir?(Path.join([System.fetch_env!("ERL_LIBS"), "#{dep}", "ebin"])),
            do: dep

      [
        vsn: String.to_charlist(version),
        applications: Enum.uniq([:kernel, :stdlib, :elixir] ++ (given[:extra_applications] || []) ++ dependencies)
      ] ++ Keyword.take(given, [:mod, :env, :registered])

    File.regular?(app_src) ->
      {:ok, [{:application, ^app, properties}]} = :file.consult(app_src)
      properties

    true ->
      {:ok, [{:application, ^app, properties}]} = :file.consult(shipped)
      properties
  end

properties =
  properties
  |> Keyword.put(:modules, modules)
  |> Keyword.update(:vsn, ~c"0", fn vsn -> if is_list(vsn), do: vsn, else: ~c"0" end)
  |> Keyword.update(:applications, [:kernel, :stdlib], &Enum.filter(&1, fn a -> is_atom(a) end))

File.write!(Path.join(ebin, "#{name}.app"), :io_lib.format("~tp.~n", [{:application, app, properties}]))
