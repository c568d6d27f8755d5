/** Sends messages to a WebSocket server and prints what comes back: `websocket-client.ts URL MESSAGE...`. */
import process from 'node:process'

const [url = '', ...messages] = process.argv.slice(2)
const socket = new WebSocket(url)
let answers = 0
socket.addEventListener('open', () => {
  for (const message of messages) socket.send(message)
})
socket.addEventListener('message', ({ data }) => {
  console.log(data)
  answers += 1
  if (answers === messages.length) socket.close()
})
socket.addEventListener('close', ({ wasClean }) => process.exit(wasClean && answers === messages.length ? 0 : 1))
setTimeout(() => process.exit(1), 10_000)
