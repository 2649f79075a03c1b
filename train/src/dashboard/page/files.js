// The files and checkpoints in a run's folder.

import { command } from "./configuration.js";
import { el, gridTable } from "./dom.js";
import { bytes, moment, whole } from "./format.js";

/** Opens the tab. */
export async function openFiles(host, run) {
  const draw = () => {
    const { files = [], checkpoints = [], command: again } = run.detail;
    host.replaceChildren(
      el(
        "div",
        { class: "columns" },
        el(
          "section",
          {},
          el("h2", {}, "Checkpoints"),
          checkpoints.length
            ? el(
                "div",
                { class: "sheet" },
                gridTable(
                  [["Step", true], ["Size", true], [""]],
                  [...checkpoints]
                    .reverse()
                    .map(({ step, bytes: size }) =>
                      el(
                        "tr",
                        {},
                        el("td", { class: "number" }, whole(step)),
                        el("td", { class: "number" }, bytes(size)),
                        el("td", {}, step === run.row.best_step ? "best validation loss" : ""),
                      ),
                    ),
                ),
              )
            : el(
                "p",
                { class: "muted" },
                "None yet: the first is saved after train.checkpoint_every steps.",
              ),
        ),
        el(
          "section",
          {},
          el("h2", {}, "Files"),
          files.length
            ? el(
                "div",
                { class: "sheet" },
                gridTable(
                  [["Name"], ["Size", true], ["Changed", true]],
                  files.map((file) =>
                    el(
                      "tr",
                      {},
                      el("td", { class: "mono" }, file.name),
                      el("td", { class: "number" }, bytes(file.bytes)),
                      el("td", { class: "number" }, moment(file.modified)),
                    ),
                  ),
                ),
              )
            : el("p", { class: "muted" }, "None."),
        ),
      ),
      el("h3", { class: "above" }, "To have this run again"),
      command(again ?? ""),
    );
  };
  draw();
  return { reloaded: draw };
}
