import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.net.http.WebSocket;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Uses the server as a Java program does, with the JDK's own client and nothing set; prints a line for each response. */
public final class JavaClient {
    private static final HttpClient CLIENT = HttpClient.newHttpClient();
    private static String url;
    private static String token = "";

    public static void main(String[] arguments) throws Exception {
        url = arguments[0];
        String ada = "{\"email\": \"ada@example.org\", \"password\": \"correct horse battery staple\"}";
        ask("begin", "POST", "/api/session", BodyPublishers.noBody());
        ask("register", "POST", "/api/auth/register", BodyPublishers.ofString(ada));
        String login = ask("login", "POST", "/api/auth/login", BodyPublishers.ofString(ada));
        System.out.println("state " + field(ask("session", "GET", "/api/session", BodyPublishers.noBody()), "state"));
        byte[] refresh = ("{\"refresh_token\": \"" + field(login, "refresh_token") + "\"}").getBytes();
        // A stream has no length that is known beforehand, so it goes in chunks.
        ask("refresh", "POST", "/api/auth/refresh", BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(refresh)));
        together();
        connect();
        ask("logout", "POST", "/api/auth/logout", BodyPublishers.noBody());
    }

    private static HttpRequest request(String method, String path, BodyPublisher body) {
        HttpRequest.Builder builder = HttpRequest.newBuilder(URI.create(url + path)).timeout(Duration.ofSeconds(60));
        if (!token.isEmpty()) {
            builder.header("Authorization", "Bearer " + token);
        }
        return builder.header("Content-Type", "application/json").method(method, body).build();
    }

    private static String ask(String name, String method, String path, BodyPublisher body) throws Exception {
        HttpResponse<String> response = CLIENT.send(request(method, path, body), BodyHandlers.ofString());
        System.out.println(name + " " + response.statusCode() + " " + response.version());
        if (response.body().contains("\"access_token\"")) {
            token = field(response.body(), "access_token");
        }
        return response.body();
    }

    /** Several requests at the same time, over as many connections. */
    private static void together() {
        List<CompletableFuture<HttpResponse<String>>> responses = new ArrayList<>();
        for (int number = 0; number < 10; number++) {
            responses.add(CLIENT.sendAsync(request("GET", "/api/session", BodyPublishers.noBody()), BodyHandlers.ofString()));
        }
        long right = responses.stream().filter(response -> response.join().statusCode() == 200).count();
        System.out.println("together " + right);
    }

    private static void connect() throws Exception {
        CompletableFuture<String> first = new CompletableFuture<>();
        CompletableFuture<Integer> closed = new CompletableFuture<>();
        WebSocket socket = CLIENT.newWebSocketBuilder()
            .subprotocols("interlock.v1")
            .header("Authorization", "Bearer " + token)
            .buildAsync(URI.create(url.replace("http://", "ws://") + "/api/connect"), new WebSocket.Listener() {
                private final StringBuilder text = new StringBuilder();

                @Override
                public CompletionStage<?> onText(WebSocket from, CharSequence part, boolean last) {
                    text.append(part);
                    if (last) {
                        first.complete(text.toString());
                    }
                    from.request(1);
                    return null;
                }

                @Override
                public CompletionStage<?> onClose(WebSocket from, int code, String reason) {
                    closed.complete(code);
                    return null;
                }

                @Override
                public void onError(WebSocket from, Throwable error) {
                    first.completeExceptionally(error);
                    closed.completeExceptionally(error);
                }
            })
            .get(60, TimeUnit.SECONDS);
        System.out.println("socket " + field(first.get(60, TimeUnit.SECONDS), "type") + " " + socket.getSubprotocol());
        socket.sendClose(WebSocket.NORMAL_CLOSURE, "").get(60, TimeUnit.SECONDS);
        System.out.println("closed " + closed.get(60, TimeUnit.SECONDS));
    }

    private static String field(String json, String name) {
        Matcher matcher = Pattern.compile("\"" + name + "\": ?\"([^\"]*)\"").matcher(json);
        if (!matcher.find()) {
            throw new IllegalStateException("no " + name + " in " + json);
        }
        return matcher.group(1);
    }
}
