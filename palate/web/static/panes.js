// Two panes, one to read and one to answer, need some height. In a low window, such as a zoomed one, the page scrolls as a whole instead.
const LEAST_READING_PX = 200;
const SLACK_PX = 40; // so that the layout does not change to and fro
const MOST_OF_WINDOW = 0.62; // the highest pane of answers, as in rate.css

export function fitPanes(form, above) {
  const fit = () => {
    const { body } = document;
    const answering = form.hidden ? 0 : Math.min(form.scrollHeight, MOST_OF_WINDOW * innerHeight);
    const reading = innerHeight - answering - above.reduce((sum, one) => sum + one.offsetHeight, 0);
    body.classList.toggle("low", reading < LEAST_READING_PX + (body.classList.contains("low") ? SLACK_PX : 0));
  };
  const observer = new ResizeObserver(() => requestAnimationFrame(fit));
  for (const one of [form, ...above]) observer.observe(one);
  addEventListener("resize", fit);
}
