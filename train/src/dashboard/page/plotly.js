// Loads plotly when the first chart is to be drawn.

let loading = null;

/** Plotly, from the server's own copy. */
export function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "/assets/plotly.min.js";
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      loading = null;
      reject(new Error("plotly.min.js does not come from the server: is it still running?"));
    };
    document.head.append(script);
  });
  return loading;
}
