import "uplot/dist/uPlot.min.css";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/frame.css";
import "./styles/overview.css";
import "./styles/station.css";
import "./styles/records.css";
import "./styles/limits.css";
import "./styles/case.css";

import { render } from "preact";

import { App } from "./app";
import { start } from "./state";

const root = document.getElementById("app");
if (root) {
  render(<App />, root);
  start();
}
