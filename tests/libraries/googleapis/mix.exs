defmodule Googleapis.MixProject do
  use Mix.Project

  def project, do: [app: :googleapis, version: "0.1.0", deps: [{:protobuf, "~> 0.17"}]]
end
