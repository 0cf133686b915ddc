import de.bwaldvogel.mongo.H2MongoServer;

/** mongo-java-server on a port of the caller's: its own command knows MongoDB's alone. */
public final class ServeMongo {
    private ServeMongo() {}

    public static void main(String[] arguments) {
        new H2MongoServer().bind("127.0.0.1", Integer.parseInt(arguments[0]));
    }
}
