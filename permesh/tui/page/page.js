// Owns what is around the terminal: where its socket is, the keyboard's focus, why it ended.
"use strict";

// textual.js makes the socket itself, and drops the reason for which it was closed.
window.WebSocket = class extends WebSocket {
  constructor(address) {
    super(address);
    this.addEventListener("open", () => {
      document.querySelector(".xterm-helper-textarea").focus();
    });
    this.addEventListener("close", (event) => {
      document.getElementById("reason").textContent =
        event.reason || "The connection to permesh broke.";
      document.getElementById("again").focus();
    });
  }
};

// Before textual.js, which begins once everything is loaded.
document.addEventListener("DOMContentLoaded", () => {
  document.getElementById("terminal").dataset.sessionWebsocketUrl = `ws://${location.host}/ws`;
  document.getElementById("again").addEventListener("click", () => location.reload());
});
