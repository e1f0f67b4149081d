// The line above the item that says what becomes of answers.
import { copyText } from "./copying.js";

// Why an answer is kept but does not count.
export const SURPLUS = {
  answered: "You have answered this in another tab. That answer counts, and this one is kept as an extra.",
  taken: "That item was given to someone else meanwhile. Your answer is kept as an extra.",
  removed: "That item was removed meanwhile. Your answer is kept as an extra.",
  viewed: "You have seen what others answered to that item. Your answer is kept as an extra.",
  left: "You are not in this project any more. Your answer is kept as an extra.",
};

export class Strip {
  constructor(element) { this.element = element; }

  show(text, kind = "") {
    this.element.hidden = !text;
    this.element.className = `strip ${kind}`;
    this.element.textContent = text;
  }

  signedOut(count) {
    this.show(count ? `You are signed out. ${count} answer${count === 1 ? " is" : "s are"} kept on this device; ` : "You are signed out; ");
    const link = document.createElement("a");
    link.href = "/signin";
    link.target = "_blank";
    link.textContent = "sign in again in a new tab";
    this.element.append(link, " and go on here.");
  }

  offerCopy({ text, reason }) {
    const written = [text, reason].filter(Boolean).join("\n\n");
    if (!written) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "plainbutton";
    button.textContent = "Copy what you wrote";
    button.addEventListener("click", async () => { button.textContent = await copyText(written) ? "Copied" : "The browser does not allow copying"; });
    this.element.append(" ", button);
  }
}
