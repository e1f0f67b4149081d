// The views of an item on the page where a reviewer decides.
import { isTyping, meaning } from "./keys.js";
import { Views } from "./views.js";

const item = document.querySelector("article.item");
const views = new Views(item, () => {});
views.show(item);
document.addEventListener("keydown", (event) => {
  if (!isTyping(event.target) && views.key(meaning(event))) event.preventDefault();
});
