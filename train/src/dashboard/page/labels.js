// Tags, note and archive of a run, written where they stand.

import { post } from "./api.js";
import { el, notice } from "./dom.js";
import { tags } from "./run_parts.js";

/** Sends labels; the run's new row, or null when it was refused, which is said. */
export async function label(id, labels) {
  try {
    return await post(`runs/${id}/labels`, labels);
  } catch (error) {
    notice(error.message, true);
    return null;
  }
}

/** Tags from a line of them. */
const tagsOf = (text) => [...new Set(text.split(/[\s,]+/).filter(Boolean))];

/**
 * Text that becomes a field when it is pressed. Enter and leaving save, Esc does not.
 * `name` says what it is, `text` what is in the field, `shown` what stands there else, `save`
 * takes the new text.
 */
function inPlace({ name, text, shown, placeholder, save }) {
  const box = el("span", { class: "in-place" });
  const button = el(
    "button",
    {
      type: "button",
      class: "edit",
      "aria-label": `${name}: ${text || "none"}. Edit.`,
      title: `Edit ${name}`,
    },
    shown.length ? shown : el("span", { class: "muted hint" }, placeholder),
  );
  const edit = () => {
    let done = false;
    const input = el("input", { type: "text", value: text, "aria-label": name, placeholder });
    const leave = async (saves) => {
      if (done) return;
      done = true;
      box.replaceChildren(button);
      delete box.dataset.editing;
      if (saves && input.value.trim() !== text) await save(input.value.trim());
      else button.focus();
    };
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") leave(true);
      if (event.key === "Escape") {
        event.stopPropagation();
        leave(false);
      }
    });
    input.addEventListener("blur", () => leave(true));
    box.dataset.editing = "";
    box.replaceChildren(input);
    input.focus();
    input.select();
  };
  button.addEventListener("click", edit);
  box.append(button);
  return box;
}

/** Tags and note of a run; `of` follows their names, `save` takes the labels that change. */
export const tagsAndNote = (row, save, of = "") => [
  inPlace({
    name: `tags${of}`,
    text: (row.tags ?? []).join(" "),
    shown: tags(row.tags),
    placeholder: "add tags",
    save: (text) => save({ tags: tagsOf(text) }),
  }),
  inPlace({
    name: `note${of}`,
    text: row.note ?? "",
    shown: row.note ? [el("span", { class: "note" }, row.note)] : [],
    placeholder: "add a note",
    save: (text) => save({ note: text }),
  }),
];
